import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { InstanceView } from '@dumont/shared/api/views.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { ControlPlaneProcess } from '../world/control-plane-process.ts';
import { eventually } from '../world/eventually.ts';
import { ProtectedWorkspace } from '../world/protected-workspace.ts';
import { Site } from '../world/site.ts';

/** Snapshots come so rarely that all that survives a loss survives by the standby. */
const POLICY = { snapshotIntervalMs: 60_000, standby: { enabled: true } } as const;

describe('a workspace with a standby', () => {
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
    await controlPlane.kill();
    await site.clear();
    controlPlane = await ControlPlaneProcess.start(site);
  }, 60_000);

  const lose = (machine: InstanceView) => site.faults.lose(must(machine.providerRef, 'it was rented'), 'kill');

  /** The standby, once it has everything but what was written just now. */
  function inSync(workspace: ProtectedWorkspace, besides = ''): Promise<InstanceView> {
    return eventually(
      'a standby is in sync',
      async () => {
        const { standby } = await workspace.view();
        if (standby === null || standby.instanceId === besides) return false;
        if (standby.behindMs === null || standby.behindMs > 2_000) return false;
        return workspace.instance(standby.instanceId);
      },
      40_000,
    );
  }

  /** Loses the primary; everything the standby had at that moment is in the log of the next. */
  async function failOver(workspace: ProtectedWorkspace, count: number): Promise<void> {
    const standby = await inSync(workspace);
    const from = await workspace.primary();
    await workspace.worksOn(from);
    await eventually('the standby follows', async () => (await workspace.log(standby)).length > 5);
    await lose(from);
    const held = await workspace.log(standby);
    const report = await workspace.failoverOver(count);
    expect(report).toMatchObject({
      state: 'completed',
      success: true,
      standby: { instanceId: standby.instanceId, outcome: 'saved', reason: null },
    });
    expect(report.rpoMs).toBeLessThan(5_000);
    const log = await workspace.log(await workspace.primary());
    expect(log.slice(0, held.length)).toEqual(held);
    // It went on from the very next number: nothing twice, nothing left out.
    const counts = log.flatMap((line) => (line.startsWith('count ') ? [Number(line.split(' ')[1])] : []));
    expect(counts).toEqual(counts.map((_, index) => index + 1));
  }

  test('loses what was not yet on the standby, not what was written since the last snapshot; and once more', async () => {
    const workspace = await ProtectedWorkspace.provision(site, 'followed', POLICY);
    await inSync(workspace);
    const primary = await workspace.primary();
    const files = workspace.workspaceFolder(primary);
    const standby = await inSync(workspace);
    await writeFile(join(files, 'late.txt'), 'in no snapshot');
    const copy = join(workspace.workspaceFolder(standby), 'late.txt');
    await eventually('the copy has it', async () => (await readFile(copy, 'utf8').catch(() => '')) !== '');
    await failOver(workspace, 1);
    const second = workspace.workspaceFolder(await workspace.primary());
    expect(await readFile(join(second, 'late.txt'), 'utf8')).toBe('in no snapshot');
    expect(await workspace.view()).toMatchObject({ epoch: 2, standby: { instanceId: standby.instanceId } });
    await failOver(workspace, 2);
    expect(await workspace.view()).toMatchObject({ epoch: 3 });
  });

  test('goes on as before when the standby is lost, and gets another', async () => {
    const workspace = await ProtectedWorkspace.provision(site, 'alone-again', POLICY);
    const standby = await inSync(workspace);
    const primary = await workspace.primary();
    await lose(standby);
    const next = await inSync(workspace, standby.instanceId);
    expect(next.role).toBe('standby');
    expect(await workspace.failovers()).toEqual([]);
    expect(await workspace.view()).toMatchObject({ epoch: 1, primaryInstanceId: primary.instanceId });
    await workspace.worksOn(primary);
    await eventually('the lost one is given back', async () => {
      return (await workspace.instance(standby.instanceId)).state === 'gone';
    });
  });

  test('is failed over from the last snapshot when the standby is lost with the primary', async () => {
    const workspace = await ProtectedWorkspace.provision(site, 'both', POLICY);
    const standby = await inSync(workspace);
    const saved = await workspace.writeSafely('kept.txt', 'in a snapshot');
    await lose(standby);
    await lose(await workspace.primary());
    const report = await workspace.failoverOver();
    expect(report).toMatchObject({ state: 'completed', standby: { outcome: 'failed' } });
    expect(report.snapshot?.snapshotId).toBe(saved.snapshotId);
  });

  test('gives the standby back with its last machine', async () => {
    const workspace = await ProtectedWorkspace.provision(site, 'ended', POLICY);
    await inSync(workspace);
    const params = { instanceId: (await workspace.primary()).instanceId };
    await site.client.call('destroyInstance', { params, query: { snapshot: 'false' } });
    await eventually('nothing is held', async () => (await site.client.call('listLedger')).items.length === 0, 40_000);
  });
});
