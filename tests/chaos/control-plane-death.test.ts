import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { must } from '@dumont/shared/util/assert.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { ControlPlaneProcess, type Death } from '../world/control-plane-process.ts';
import { eventually } from '../world/eventually.ts';
import { ProtectedWorkspace } from '../world/protected-workspace.ts';
import { Site } from '../world/site.ts';

/**
 * One workspace is lost again and again; each time the control plane dies by SIGKILL at another point of the failover
 * and is started again on the same folder and port. Each death's restart is the control plane of the next.
 */
describe('a control plane that is killed', () => {
  const resources = new AsyncDisposableStack();
  let site: Site;
  let workspace: ProtectedWorkspace;
  let controlPlane: ControlPlaneProcess;
  let failoverCount = 0;

  beforeAll(async () => {
    site = resources.use(await Site.make());
    controlPlane = await ControlPlaneProcess.start(site);
    resources.defer(() => controlPlane.kill());
    workspace = await ProtectedWorkspace.provision(site, 'immortal', { raceWidth: 2 });
  });
  afterAll(() => resources.disposeAsync());

  /** Replaces the control plane by one that will die. */
  async function restart(death?: Death): Promise<void> {
    await controlPlane.kill();
    controlPlane = await ControlPlaneProcess.start(site, death);
  }

  async function loseAndDie(death: Death, how: 'kill' | 'freeze'): Promise<void> {
    await restart(death);
    const old = await workspace.primary();
    await eventually('the primary is connected', async () => (await workspace.instance(old.instanceId)).connected);
    await workspace.writeSafely('data/acknowledged.txt', `before failover ${failoverCount}`);
    controlPlane.arm();
    await site.faults.lose(must(old.providerRef, 'a primary was rented'), how);
    await controlPlane.died();
    await restart();
    failoverCount += 1;
    await expectOneLife(old.instanceId);
  }

  async function expectOneLife(oldId: string): Promise<void> {
    const report = await workspace.failoverOver(failoverCount);
    expect(report).toMatchObject({ state: 'completed', success: true, from: { instanceId: oldId } });
    const view = await workspace.view();
    expect(view.primaryInstanceId).toBe(report.to?.instanceId);
    expect(view.endpointInstanceId).toBe(report.to?.instanceId);
    await eventually('one machine is left in the books', async () => {
      return (await site.client.call('listLedger', { query: {} })).items.length === 1;
    });
    const machines = await site.provider.list({ signal: new AbortController().signal });
    const primary = await workspace.primary();
    expect(machines.map(({ ref }) => ref)).toEqual([primary.providerRef]);

    // The newest that the old machine had committed: nothing acknowledged is lost.
    const newest = must(
      (await workspace.snapshots()).find(({ epoch }) => epoch < view.epoch),
      'the old machine had published',
    );
    expect(report.snapshot?.snapshotId).toBe(newest.snapshotId);
    expect(await workspace.differencesFrom(newest, primary)).toEqual([]);
    await workspace.worksOn(primary);
    expect(await workspace.workers(primary)).toHaveLength(1);
    expect(await workspace.starts(primary)).toHaveLength(failoverCount + 1);
  }

  const entering = (step: string): Death => ({
    when: { event: 'operation.step', kind: 'failover', to: step },
    afterMs: 0,
  });
  test.each([
    ['when it has searched nothing yet', { when: { event: 'detect.verdict', kind: 'confirm' }, afterMs: 15 }],
    ['before it rents', entering('provisioning')],
    ['when a machine is rented and not in the books', { when: { event: 'local.created' }, afterMs: 0 }],
    ['when a machine is rented and in the books', { when: { event: 'local.created' }, afterMs: 150 }],
    ['before it restores', entering('restoring')],
    ['while it restores', { ...entering('restoring'), afterMs: 25 }],
    ['before it promotes', entering('committing')],
    ['when it has promoted and not written so', { when: { event: 'wardship.inform' }, afterMs: 0 }],
    ['before it resumes the workload', entering('resuming')],
    ['while the workload starts', { ...entering('resuming'), afterMs: 100 }],
    ['before it points users at the machine', entering('switching')],
    ['before it releases the old machine', entering('releasing')],
    ['when a machine is destroyed and not proven gone', { when: { event: 'local.destroyed' }, afterMs: 0 }],
  ] as const)('completes the failover when it dies %s', async (_, death) => {
    await loseAndDie(death, 'kill');
  });

  const random = seededRandom(20_261_122);
  test.each(
    Array.from({ length: 4 }, (_, index) => ({
      how: index % 2 === 0 ? ('freeze' as const) : ('kill' as const),
      afterMs: Math.round(random.next() * (index % 2 === 0 ? 4_500 : 1_500)),
    })),
  )('completes the failover from a $how when it dies $afterMs ms after the suspicion', async ({ how, afterMs }) => {
    await loseAndDie({ when: { event: 'detect.verdict', kind: 'suspect' }, afterMs }, how);
  });
});
