import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { InstanceView } from '@dumont/shared/api/views.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { ControlPlaneProcess, type Death } from '../world/control-plane-process.ts';
import { eventually } from '../world/eventually.ts';
import { ProtectedWorkspace } from '../world/protected-workspace.ts';
import { Site } from '../world/site.ts';

/** A control plane that dies by SIGKILL around a takeover by the standby, and is started again on the same folder and port. */
describe('a control plane that is killed while users go over to the standby and back', () => {
  const resources = new AsyncDisposableStack();
  let site: Site;
  let workspace: ProtectedWorkspace;
  let controlPlane: ControlPlaneProcess;
  let failoverCount = 0;

  beforeAll(async () => {
    site = resources.use(await Site.make());
    controlPlane = await ControlPlaneProcess.start(site);
    resources.defer(() => controlPlane.kill());
    // What is written after the first snapshot survives by the standby alone.
    const policy = { snapshotIntervalMs: 3_600_000, standby: { enabled: true } };
    workspace = await ProtectedWorkspace.provision(site, 'twice-immortal', policy);
  });
  afterAll(() => resources.disposeAsync());

  async function restart(death?: Death): Promise<void> {
    await controlPlane.kill();
    controlPlane = await ControlPlaneProcess.start(site, death);
  }

  function inSync(): Promise<InstanceView> {
    return eventually(
      'a standby is in sync',
      async () => {
        const { standby } = await workspace.view();
        if (standby === null || standby.behindMs === null) return false;
        const instance = await workspace.instance(standby.instanceId);
        // After a restart the sync goes on before its agent has found the new control plane.
        return instance.connected && instance;
      },
      60_000,
    );
  }

  test.each([
    ['when the takeover is written and nobody was told', { when: { event: 'wardship.inform' }, afterMs: 0 }],
    ['when the way back begins', { when: { event: 'operation.step', to: 'committing' }, afterMs: 0 }],
    ['in the pause', { when: { event: 'operation.step', to: 'committing' }, afterMs: 150 }],
  ] as const)('brings users back with everything when it dies %s', async (_, death) => {
    await inSync();
    await restart(death);
    const standby = await inSync();
    const from = await workspace.primary();
    const path = `late-${failoverCount}.txt`;
    await writeFile(join(workspace.workspaceFolder(from), path), 'in no snapshot');
    const copy = join(workspace.workspaceFolder(standby), path);
    await eventually('the copy has it', async () => (await readFile(copy, 'utf8').catch(() => '')) !== '');
    controlPlane.arm();
    await site.faults.lose(must(from.providerRef, 'it was rented'), 'kill');
    await controlPlane.died();
    await restart();
    failoverCount += 1;
    const report = await workspace.failoverOver(failoverCount);
    expect(report).toMatchObject({
      state: 'completed',
      success: true,
      standby: { instanceId: standby.instanceId, outcome: 'handed-over', reason: null },
    });
    const next = await workspace.primary();
    expect(next.instanceId).toBe(report.to?.instanceId);
    expect(await readFile(join(workspace.workspaceFolder(next), path), 'utf8')).toBe('in no snapshot');
    await workspace.worksOn(next);
    expect(await workspace.workers(next)).toHaveLength(1);
    expect(await workspace.starts(next)).toHaveLength(failoverCount + 1);
    for (const gone of [from, standby]) {
      await eventually('it is given back', async () => (await workspace.instance(gone.instanceId)).state === 'gone');
    }
  });
});
