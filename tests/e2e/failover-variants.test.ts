import { mkdir, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { LOCAL_MARKET } from '@dumont/control-plane/providers/local/market.ts';
import type { InstanceView } from '@dumont/shared/api/views.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { ControlPlaneProcess } from '../world/control-plane-process.ts';
import { eventually } from '../world/eventually.ts';
import { ProtectedWorkspace } from '../world/protected-workspace.ts';
import { AGENT_MAIN, Site } from '../world/site.ts';

/** Six seconds from the silence to the fence: time enough to prepare a replacement on a busy computer. */
const LATE_COMMIT = { detectMode: 'balanced' } as const;
const EVERY_OFFER = LOCAL_MARKET.map(({ offer }) => offer.offerId);

/** One control plane for all; each test has a workspace of its own and gives its machines back. */
describe('a failover', () => {
  const resources = new AsyncDisposableStack();
  let site: Site;
  let controlPlane: ControlPlaneProcess;

  beforeAll(async () => {
    site = resources.use(await Site.make());
    controlPlane = await ControlPlaneProcess.start(site);
    resources.defer(() => controlPlane.kill());
  });
  afterAll(() => resources.disposeAsync());
  afterEach(async () => {
    if ((await openBooks()).length === 0) return;
    // A test that failed half-way must not take the market from the next.
    await controlPlane.kill();
    await site.clear();
    controlPlane = await ControlPlaneProcess.start(site);
  }, 60_000);

  const refOf = (machine: InstanceView) => must(machine.providerRef, 'it was rented');
  const lose = (machine: InstanceView, how: 'kill' | 'freeze' | 'partition') => site.faults.lose(refOf(machine), how);
  const openBooks = async () => (await site.client.call('listLedger')).items;

  /** The books hold exactly the workspace's primary; then it is given back too. */
  async function closeBooks(workspace: ProtectedWorkspace): Promise<void> {
    const primary = await workspace.primary();
    await eventually('only the primary is left in the books', async () => {
      const open = await openBooks();
      return open.length === 1 && open[0]?.instanceId === primary.instanceId;
    });
    const params = { instanceId: primary.instanceId };
    const { operationId } = await site.client.call('destroyInstance', { params, query: { snapshot: 'false' } });
    expect((await workspace.operation(operationId)).state).toBe('completed');
    expect(await openBooks()).toEqual([]);
    expect(await site.provider.list({ signal: new AbortController().signal })).toEqual([]);
  }

  test.each(['freeze', 'partition'] as const)(
    'is averted when the machine comes back from a %s before the fence: nothing changes and what was rented goes back',
    async (how) => {
      const workspace = await ProtectedWorkspace.provision(site, `averted-${how}`, LATE_COMMIT);
      const primary = await workspace.primary();
      const starts = await workspace.starts(primary);
      await lose(primary, how);
      await workspace.reached('failover', 'committing', 5_500);
      await (how === 'freeze' ? site.faults.thaw(refOf(primary)) : site.faults.heal(refOf(primary)));

      const report = await workspace.failoverOver();
      expect(report).toMatchObject({ state: 'averted', success: false, to: { provider: 'local' } });
      const view = await workspace.view();
      expect(view).toMatchObject({ primaryInstanceId: primary.instanceId, epoch: 1 });
      expect(await workspace.instance(primary.instanceId)).toMatchObject({ state: 'ready', standing: 'primary' });
      await workspace.worksOn(primary);
      expect(await workspace.starts(primary)).toEqual(starts);
      await workspace.writeSafely('after.txt', 'published by the same machine');
      await closeBooks(workspace);
    },
  );

  test('is begun anew when the machine comes back and is lost again while the first is being averted', async () => {
    const workspace = await ProtectedWorkspace.provision(site, 'flapping', LATE_COMMIT);
    const primary = await workspace.primary();
    await lose(primary, 'freeze');
    await workspace.reached('failover', 'committing', 5_500);
    await site.faults.thaw(refOf(primary));
    await workspace.reached('failover', 'averting');
    await lose(primary, 'kill');
    expect((await workspace.failoverOver(1)).state).toBe('averted');
    const second = await workspace.failoverOver(2);
    expect(second).toMatchObject({ state: 'completed', success: true, from: { instanceId: primary.instanceId } });
    await closeBooks(workspace);
  });

  test('asked for by an operator loses nothing and destroys the machine it left', async () => {
    const workspace = await ProtectedWorkspace.provision(site, 'moved');
    const from = await workspace.primary();
    await workspace.worksOn(from);
    const { failoverId } = await site.client.call('triggerFailover', { body: { workspace: workspace.name } });
    // The log is watched until the old machine goes.
    let last: readonly string[] = [];
    await eventually(
      'the old machine is gone',
      async () => {
        last = await workspace.log(from).catch(() => last);
        return (await workspace.instance(from.instanceId)).state === 'gone';
      },
      40_000,
    );
    expect((await workspace.operation(failoverId)).state).toBe('completed');
    const to = await workspace.primary();
    const log = await workspace.log(to);
    expect(last.length).toBeGreaterThan(5);
    expect(log.slice(0, last.length)).toEqual(last);
    // It went on from the very next number.
    const counts = log.flatMap((line) => (line.startsWith('count ') ? [Number(line.split(' ')[1])] : []));
    expect(counts).toEqual(counts.map((_, index) => index + 1));
    await closeBooks(workspace);
  });

  test('asked for by an operator is averted when the machine cannot save its work, which goes on there', async () => {
    const workspace = await ProtectedWorkspace.provision(site, 'unmovable');
    const from = await workspace.primary();
    await workspace.worksOn(from);
    // A store in which nothing can be written, for this machine alone.
    const { mount } = site.paths(from.providerRef);
    const broken = join(site.folder, 'broken');
    await mkdir(broken);
    await writeFile(join(broken, 'packs'), 'not a folder');
    const good = await readlink(mount);
    await rm(mount);
    await symlink(broken, mount);
    const { failoverId } = await site.client.call('triggerFailover', { body: { workspace: workspace.name } });
    const { state, error } = await workspace.operation(failoverId);
    expect(state).toBe('averted');
    expect(error).toContain('no last snapshot could be taken');
    await rm(mount);
    await symlink(good, mount);
    expect(await workspace.view()).toMatchObject({ primaryInstanceId: from.instanceId, epoch: 1 });
    await workspace.worksOn(from);
    // It went on from the very next number, and what it wrote meanwhile can be saved now.
    const counts = (await workspace.log(from)).flatMap((line) =>
      line.startsWith('count ') ? [Number(line.split(' ')[1])] : [],
    );
    expect(counts).toEqual(counts.map((_, index) => index + 1));
    await workspace.writeSafely('after.txt', 'saved by the same machine');
    await closeBooks(workspace);
  });

  test.each([
    ['restoring', 'kill', 'sleep 1'],
    ['restoring', 'freeze', 'sleep 1'],
    ['resuming', 'kill', undefined],
    ['resuming', 'freeze', undefined],
  ] as const)(
    'takes another machine when the replacement is lost while %s, by a %s',
    async (step, how, postRestore) => {
      const workload = { command: 'node work.mjs', ...(postRestore !== undefined && { postRestore }) };
      const workspace = await ProtectedWorkspace.provision(site, `unlucky-${step}-${how}`, { workload });
      const old = await workspace.primary();
      await lose(old, 'kill');
      await workspace.reached('failover', step);
      const replacement = must(
        (await workspace.machines()).find(
          ({ instanceId, state }) => instanceId !== old.instanceId && state === 'ready',
        ),
        'a replacement is being prepared',
      );
      await lose(replacement, how);
      const report = await workspace.failoverOver();
      expect(report).toMatchObject({ state: 'completed', success: true, loserInstanceIds: [replacement.instanceId] });
      expect(report.to?.machineId).not.toBe(replacement.machineId);
      await workspace.worksOn(await workspace.primary());
      await closeBooks(workspace);
    },
  );

  test('tries one machine after another with the coldstart strategy', async () => {
    const workspace = await ProtectedWorkspace.provision(site, 'patient', { strategy: 'coldstart' });
    await site.faults.refuseNext(2);
    await lose(await workspace.primary(), 'kill');
    const report = await workspace.failoverOver();
    expect(report).toMatchObject({ state: 'completed', success: true });
    const requested = (await workspace.events()).filter(
      ({ type, operationId }) => type === 'machine.requested' && operationId === report.failoverId,
    );
    expect(requested).toHaveLength(3);
    await closeBooks(workspace);
  });

  test('waits while the market has nothing', async () => {
    const workspace = await ProtectedWorkspace.provision(site, 'starved');
    await site.faults.vanishOffers(EVERY_OFFER);
    await lose(await workspace.primary(), 'kill');
    await eventually('it has searched in vain', async () => (await workspace.failovers())[0]?.state === 'searching');
    await systemClock.sleep(1_000);
    expect((await workspace.failovers())[0]?.state).toBe('searching');
    await site.faults.calmMarket();
    expect(await workspace.failoverOver()).toMatchObject({ state: 'completed', success: true });
    await closeBooks(workspace);
  });

  test('does not happen because the control plane was away: the work never stops, and snapshots go on', async () => {
    const workspace = await ProtectedWorkspace.provision(site, 'alone');
    const primary = await workspace.primary();
    const starts = await workspace.starts(primary);
    await controlPlane.kill();
    const before = (await workspace.log(primary)).length;
    await eventually('the work goes on for a while', async () => (await workspace.log(primary)).length > before + 60);
    controlPlane = await ControlPlaneProcess.start(site);
    const atReturn = await workspace.snapshots();
    await eventually('snapshots go on', async () => (await workspace.snapshots()).length > atReturn.length + 1);
    expect(await workspace.failovers()).toEqual([]);
    expect(await workspace.view()).toMatchObject({ primaryInstanceId: primary.instanceId, epoch: 1 });
    expect(await workspace.starts(primary)).toEqual(starts);
    await closeBooks(workspace);
  });

  test('does not happen because the agent was killed: another goes on with the same work at the same epoch', async () => {
    const workspace = await ProtectedWorkspace.provision(site, 'agentless', { detectMode: 'balanced' });
    const primary = await workspace.primary();
    const [starts, workers] = [await workspace.starts(primary), await workspace.workers(primary)];
    const [agentPid] = await site.processes(primary.providerRef, `${process.execPath} ${AGENT_MAIN}`);
    process.kill(must(agentPid, 'the machine has an agent'), 'SIGKILL');
    await eventually('another agent is there', async () => {
      const [nextPid] = await site.processes(primary.providerRef, `${process.execPath} ${AGENT_MAIN}`);
      return nextPid !== undefined && nextPid !== agentPid && (await workspace.primary()).workload === 'running';
    });
    const saved = await workspace.writeSafely('data/after.txt', 'saved by the second agent');
    await workspace.worksOn(primary);
    expect(saved.epoch).toBe(1);
    expect(await workspace.workers(primary)).toEqual(workers);
    expect(await workspace.starts(primary)).toEqual(starts);
    expect(await workspace.failovers()).toEqual([]);
    expect(await workspace.view()).toMatchObject({ primaryInstanceId: primary.instanceId, epoch: 1 });
    expect((await workspace.events()).map(({ type }) => type)).not.toContain('failover.started');
    await closeBooks(workspace);
  });

  test('follows when the machine was lost while the control plane was away', async () => {
    const workspace = await ProtectedWorkspace.provision(site, 'unwatched');
    const saved = await workspace.writeSafely('data/acknowledged.txt', 'before the outage');
    const primary = await workspace.primary();
    await controlPlane.kill();
    await lose(primary, 'kill');
    controlPlane = await ControlPlaneProcess.start(site);
    const report = await workspace.failoverOver();
    expect(report).toMatchObject({ state: 'completed', success: true });
    expect(report.snapshot?.seq).toBeGreaterThanOrEqual(saved.seq);
    await closeBooks(workspace);
  });

  test('is not needed when a machine is stopped on purpose: its last state is kept and it goes', async () => {
    const workspace = await ProtectedWorkspace.provision(site, 'stopped');
    const primary = await workspace.primary();
    await workspace.worksOn(primary);
    const params = { instanceId: primary.instanceId };
    const { operationId } = await site.client.call('destroyInstance', { params });
    let last: readonly string[] = [];
    await eventually('the machine is gone', async () => {
      last = await workspace.log(primary).catch(() => last);
      return (await workspace.instance(primary.instanceId)).state === 'gone';
    });
    expect((await workspace.operation(operationId)).state).toBe('completed');
    const [head] = await workspace.snapshots();
    expect(await workspace.logIn(must(head, 'it was saved'))).toEqual(last);
    expect(await workspace.view()).toMatchObject({ primaryInstanceId: null, endpointInstanceId: null });
    expect(await workspace.failovers()).toEqual([]);
    expect(await openBooks()).toEqual([]);
  });
});
