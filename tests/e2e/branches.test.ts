import { mkdir, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { BranchDetailView, InstanceView } from '@dumont/shared/api/views.ts';
import type { FailoverReport } from '@dumont/shared/api/failover-report.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { workspacePrefix } from '@dumont/shared/storage/workspace-prefix.ts';
import type { WorkspaceId } from '@dumont/shared/model/ids.ts';
import { ControlPlaneProcess } from '../world/control-plane-process.ts';
import { eventually } from '../world/eventually.ts';
import { ProtectedWorkspace } from '../world/protected-workspace.ts';
import { Site } from '../world/site.ts';

/** Until the test has done what it wants to find harvested, and long enough for a busy computer. */
const WAIT_MS = 60_000;

describe('a primary that was cut off and comes back after its successor took over', () => {
  const resources = new AsyncDisposableStack();
  let site: Site;

  beforeAll(async () => {
    site = resources.use(await Site.make());
    const controlPlane = await ControlPlaneProcess.start(site);
    resources.defer(() => controlPlane.kill());
  });
  afterAll(() => resources.disposeAsync());

  const read = (workspace: ProtectedWorkspace, machine: InstanceView, path: string) =>
    readFile(join(workspace.workspaceFolder(machine), path), 'utf8');
  const branchesOf = async (name: string) =>
    (await site.client.call('listBranches', { query: { workspace: name } })).items;

  /** Cuts the primary off, lets `late` write on it, heals it once users are elsewhere; resolves when it is gone. */
  async function loseAndHeal(
    workspace: ProtectedWorkspace,
    late: (folder: string) => Promise<void>,
    meanwhile: (folder: string) => Promise<void> = () => Promise.resolve(),
  ): Promise<{ readonly old: InstanceView; readonly report: FailoverReport }> {
    const old = await workspace.primary();
    const ref = must(old.providerRef, 'it was rented');
    await site.faults.lose(ref, 'partition');
    await late(workspace.workspaceFolder(old));
    await workspace.reached('failover', 'releasing');
    await meanwhile(workspace.workspaceFolder(await workspace.primary()));
    await site.faults.heal(ref);
    const report = await workspace.failoverOver();
    return { old, report };
  }

  test('has its late files kept as a branch, exactly those; a merge brings them; the machine is destroyed', async () => {
    const files = { 'data/both.txt': 'base', 'data/theirs.txt': 'base', 'data/old.txt': 'base' };
    const workload = { command: 'sleep 600' };
    const workspace = await ProtectedWorkspace.provision(site, 'late', {
      files,
      workload,
      branches: { waitMs: WAIT_MS },
    });
    await workspace.writeSafely('data/saved.txt', 'in a snapshot');
    const { old, report } = await loseAndHeal(
      workspace,
      async (folder) => {
        await mkdir(join(folder, 'checkpoints'));
        await writeFile(join(folder, 'checkpoints/step-200.pt'), 'late weights');
        await writeFile(join(folder, 'data/theirs.txt'), 'late');
        await writeFile(join(folder, 'data/both.txt'), 'late, by the old machine');
        await rm(join(folder, 'data/old.txt'));
        await utimes(join(folder, 'checkpoints/step-200.pt'), 4_000_000_000, 4_000_000_000);
      },
      (folder) => writeFile(join(folder, 'data/both.txt'), 'by the new machine'),
    );
    expect(report).toMatchObject({ state: 'completed', success: true });
    expect(report.branches).toMatchObject([{ instanceId: old.instanceId, state: 'open', addedCount: 2 }]);
    expect((await workspace.instance(old.instanceId)).state).toBe('gone');

    const [listed] = await branchesOf('late');
    const branchId = must(listed, 'there is a branch').branchId;
    const branch: BranchDetailView = await site.client.call('getBranch', { params: { branchId } });
    expect(branch).toMatchObject({ epoch: 1, state: 'open', addedCount: 2, changedCount: 2, deletedCount: 1 });
    expect(branch.changes[0]).toMatchObject({ path: 'checkpoints/step-200.pt', change: 'added', sizeBytes: 12 });
    expect(new Map(branch.changes.map(({ path, change }) => [path, change]))).toEqual(
      new Map([
        ['checkpoints', 'added'],
        ['checkpoints/step-200.pt', 'added'],
        ['data/theirs.txt', 'changed'],
        ['data/both.txt', 'changed'],
        ['data/old.txt', 'deleted'],
      ]),
    );
    // It is no snapshot of the workspace: nothing of the old machine was published after the fence.
    const snapshots = await workspace.snapshots();
    expect(snapshots.map(({ snapshotId }) => snapshotId)).not.toContain(branch.snapshotId);
    expect(snapshots.filter(({ epoch }) => epoch > 1).every(({ instanceId }) => instanceId !== old.instanceId)).toBe(
      true,
    );

    const { merge } = await site.client.call('mergeBranch', { params: { branchId }, body: {} });
    expect(merge.counts).toEqual({ taken: 3, beside: 1, same: 0, kept: 1, deleted: 0 });
    const fresh = await workspace.primary();
    expect(await read(workspace, fresh, 'checkpoints/step-200.pt')).toBe('late weights');
    expect(await read(workspace, fresh, 'data/theirs.txt')).toBe('late');
    expect(await read(workspace, fresh, 'data/both.txt')).toBe('by the new machine');
    expect(await read(workspace, fresh, `data/both.txt.branch-${branchId}`)).toBe('late, by the old machine');
    expect(await read(workspace, fresh, 'data/old.txt')).toBe('base');
    expect((await readdir(workspace.workspaceFolder(fresh))).filter((name) => name.startsWith('.dumont'))).toEqual([]);
    const [head] = await workspace.snapshots();
    expect(merge.snapshotAfter).toBe(head?.snapshotId);
    expect(await workspace.differencesFrom(must(head, 'it was published'), fresh)).toEqual([]);
    // Again: nothing is left to do.
    const again = await site.client.call('mergeBranch', { params: { branchId }, body: {} });
    expect(again.merge.counts).toEqual({ taken: 0, beside: 1, same: 3, kept: 1, deleted: 0 });
    expect(again.branch.state).toBe('merged');

    // Deleted, its manifest goes; what was merged stays whole.
    await site.client.call('deleteBranch', { params: { branchId } });
    const manifests = join(
      site.storePath,
      workspacePrefix(branch.workspaceId as WorkspaceId),
      'manifests',
      branch.workspaceId,
    );
    await eventually('its manifest is removed', async () =>
      (await readdir(manifests)).every((name) => !name.includes(branch.snapshotId)),
    );
    expect(await branchesOf('late')).toEqual([]);
    const types = (await workspace.events()).map(({ type }) => type);
    expect(types.filter((type) => type.startsWith('branch.'))).toEqual([
      'branch.harvested',
      'branch.merged',
      'branch.merged',
      'branch.deleted',
    ]);
    const open = (await site.client.call('listLedger')).items;
    expect(open.map(({ instanceId }) => instanceId)).toEqual([fresh.instanceId]);
  });

  test('has what its workload wrote until it heard of the fence kept, also when it was frozen', async () => {
    const workspace = await ProtectedWorkspace.provision(site, 'writing', { branches: { waitMs: WAIT_MS } });
    const old = await workspace.primary();
    await workspace.worksOn(old);
    // So the log is in the last snapshot as well: the branch changes it.
    await workspace.writeSafely('saved.txt', 'with the log beside it');
    const ref = must(old.providerRef, 'it was rented');
    await site.faults.lose(ref, 'partition');
    // It goes on working, seen by nobody.
    await workspace.reached('failover', 'releasing');
    await site.faults.lose(ref, 'freeze');
    const fresh = await workspace.primary();
    const last = await workspace.log(old);
    await site.faults.heal(ref);
    await site.faults.thaw(ref);
    const report = await workspace.failoverOver();
    const [branch] = report.branches;
    expect(branch).toMatchObject({ instanceId: old.instanceId, changedCount: 1, addedCount: 0, deletedCount: 0 });
    const { branchId } = must(branch, 'there is a branch');
    const { merge } = await site.client.call('mergeBranch', { params: { branchId }, body: {} });
    expect(merge.paths).toEqual([{ path: 'work.log', outcome: 'beside', as: `work.log.branch-${branchId}` }]);
    const log = (await read(workspace, fresh, `work.log.branch-${branchId}`)).trim().split('\n');
    expect(log.slice(0, last.length)).toEqual(last);
    await workspace.worksOn(fresh);
    expect((await workspace.instance(old.instanceId)).state).toBe('gone');
  });

  test('is not waited for unless the policy says so', async () => {
    const workspace = await ProtectedWorkspace.provision(site, 'silent');
    const old = await workspace.primary();
    await site.faults.lose(must(old.providerRef, 'it was rented'), 'partition');
    const report = await workspace.failoverOver();
    expect(report).toMatchObject({ state: 'completed', branches: [] });
    expect((await workspace.instance(old.instanceId)).state).toBe('gone');
    // Asked it may have been, while its connection was not yet known to be gone.
    expect((await workspace.events()).map(({ type }) => type)).not.toContain('branch.harvested');
  });
});
