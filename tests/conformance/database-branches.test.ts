import { expect, test } from 'vitest';
import type { BranchCommit } from '@dumont/control-plane/store/branches.ts';
import {
  commitBranch,
  findBranch,
  listBranches,
  listExpiredBranches,
  listUnremovedBranches,
  markDeleted,
  markMerged,
  markRemoved,
} from '@dumont/control-plane/store/branches.ts';
import type { Database } from '@dumont/control-plane/store/database.ts';
import { closeHarvest, isHarvestOpen, openHarvest } from '@dumont/control-plane/store/harvests.ts';
import { applyInstanceEvent } from '@dumont/control-plane/store/instances.ts';
import { commitSnapshot } from '@dumont/control-plane/store/snapshots.ts';
import {
  deleteStorageKey,
  insertStorageKey,
  listForgottenStorageKeys,
} from '@dumont/control-plane/store/storage-keys.ts';
import { fencePrimary, findWorkspace, promotePrimary } from '@dumont/control-plane/store/workspaces.ts';
import { newId, type InstanceId } from '@dumont/shared/model/ids.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { onEachDatabase } from '../world/databases.ts';
import { someInstance, someSnapshot, someWorkspace } from '../world/rows.ts';

const SUMMARY = { addedCount: 1, changedCount: 0, deletedCount: 0, changedBytes: 10, changes: [] };
const KEEP_MS = 1_000;

/** A workspace whose primary published once at epoch 1 and was fenced; its successor has published since. */
async function fencedWorkspace(db: Database) {
  const workspaceId = await someWorkspace(db);
  const [old, fresh] = [await someInstance(db, workspaceId), await someInstance(db, workspaceId)];
  await promotePrimary(db, workspaceId, old, 0);
  const base = someSnapshot(null);
  await commitSnapshot(db, { workspaceId, instanceId: old, epoch: 0, record: base, storage: 'file', atMs: 2_000 });
  await fencePrimary(db, workspaceId, old);
  await promotePrimary(db, workspaceId, fresh, 1);
  const head = someSnapshot(base.snapshotId);
  await commitSnapshot(db, { workspaceId, instanceId: fresh, epoch: 1, record: head, storage: 'file', atMs: 3_000 });
  const permit = (instanceId: InstanceId) =>
    openHarvest(db, { instanceId, operationId: newId('operation'), commandId: newId('command'), atMs: 4_000 });
  const commit = (over: Partial<BranchCommit> = {}) =>
    commitBranch(db, {
      workspaceId,
      instanceId: old,
      epoch: 0,
      record: someSnapshot(base.snapshotId),
      summary: SUMMARY,
      atMs: 5_000,
      keepMs: KEEP_MS,
      ...over,
    });
  return { workspaceId, old, fresh, base, head, permit, commit };
}

async function someBranch(db: Database) {
  const { permit, commit, old } = await fencedWorkspace(db);
  await permit(old);
  const outcome = await commit();
  if (outcome.kind !== 'committed') throw new Error(outcome.reason);
  return outcome.branch;
}

onEachDatabase((database) => {
  test('a fenced machine commits a branch where it is permitted, once, and never moves the head', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const { workspaceId, old, base, head, permit, commit } = await fencedWorkspace(db);
    expect(await commit()).toMatchObject({ kind: 'refused' });
    const harvest = must(await permit(old), 'it is fenced');
    expect(harvest).toMatchObject({ epoch: 0, baseSnapshotId: base.snapshotId, outcome: null });
    expect(await isHarvestOpen(db, old)).toBe(true);
    const before = await findWorkspace(db, workspaceId);
    const record = someSnapshot(base.snapshotId);
    expect(await commit({ record })).toMatchObject({ kind: 'committed', isNew: true });
    expect(await findWorkspace(db, workspaceId)).toEqual(before);
    expect(before?.headSnapshotId).toBe(head.snapshotId);
    expect(await isHarvestOpen(db, old)).toBe(false);
    // The same again is no second one; another is.
    expect(await commit({ record })).toMatchObject({ kind: 'committed', isNew: false });
    expect(await commit()).toMatchObject({ kind: 'refused' });
    // Nor does a new permission come for the asking.
    expect(await permit(old)).toMatchObject({ outcome: 'harvested', commandId: harvest.commandId });
    expect(await commit()).toMatchObject({ kind: 'refused' });
    expect(await listBranches(db, { workspaceId, includeDeleted: true, limit: 10 })).toHaveLength(1);
    const events = await db.query("select type from events where type like 'branch.%'");
    expect(events).toEqual([{ type: 'branch.harvested' }]);
  });

  test('nobody but the fenced machine of this workspace commits one, and only on its own last snapshot', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const { old, fresh, head, permit, commit } = await fencedWorkspace(db);
    const other = await fencedWorkspace(db);
    expect(await permit(fresh)).toBeUndefined();
    expect(await permit(await someInstance(db, other.workspaceId))).toBeUndefined();
    await permit(old);
    expect(await commit({ instanceId: fresh, epoch: 1 })).toMatchObject({ kind: 'refused' });
    expect(await commit({ workspaceId: other.workspaceId })).toMatchObject({ kind: 'refused' });
    expect(await commit({ instanceId: other.old })).toMatchObject({ kind: 'refused' });
    expect(await commit({ epoch: 1 })).toMatchObject({ kind: 'refused' });
    expect(await commit({ record: someSnapshot(head.snapshotId) })).toMatchObject({ kind: 'refused' });
    await expect(commit({ record: { ...head } })).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(await commit()).toMatchObject({ kind: 'committed' });
  });

  test('a permission ends, and none is given for a machine that is being given back', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const { old, permit, commit } = await fencedWorkspace(db);
    const harvest = must(await permit(old), 'it is fenced');
    const end = { outcome: 'failed', reason: 'it said nothing', atMs: 4_500 } as const;
    expect(await closeHarvest(db, harvest, end)).toBe(true);
    expect(await closeHarvest(db, harvest, { ...end, reason: 'again' })).toBe(false);
    expect(await commit()).toMatchObject({ kind: 'refused' });
    expect(await permit(old)).toMatchObject({ outcome: 'failed', reason: 'it said nothing' });
    const other = await fencedWorkspace(db);
    await applyInstanceEvent(db, other.old, 'release', 4_000);
    expect(await other.permit(other.old)).toBeUndefined();
  });

  test('its keys to the store are left alone while it is harvested, and no longer', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const { old, permit, commit } = await fencedWorkspace(db);
    await insertStorageKey(db, { keyId: 'key', instanceId: old, expiresAtMs: 100_000 });
    const forgotten = () => listForgottenStorageKeys(db, { nowMs: 4_000, limit: 10 });
    expect(await forgotten()).toEqual(['key']);
    await permit(old);
    expect(await forgotten()).toEqual([]);
    await commit();
    expect(await forgotten()).toEqual(['key']);
    await deleteStorageKey(db, 'key');
  });

  test('a branch is open until it is merged, reaches its age, is deleted, and then removed once', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const branch = await someBranch(db);
    expect(branch).toMatchObject({ state: 'open', createdAtMs: 5_000, expiresAtMs: 5_000 + KEEP_MS });
    expect(await markMerged(db, branch.id, 5_500)).toMatchObject({ state: 'merged', mergedAtMs: 5_500 });
    expect(await listExpiredBranches(db, { nowMs: 5_999, limit: 10 })).toEqual([]);
    expect((await listExpiredBranches(db, { nowMs: 6_000, limit: 10 })).map(({ id }) => id)).toEqual([branch.id]);
    expect(await markDeleted(db, branch.id, 6_000)).toMatchObject({ state: 'deleted', deletedAtMs: 6_000 });
    expect(await markDeleted(db, branch.id, 7_000)).toBeUndefined();
    expect(await markMerged(db, branch.id, 7_000)).toBeUndefined();
    expect(await listExpiredBranches(db, { nowMs: 9_000, limit: 10 })).toEqual([]);
    expect((await listUnremovedBranches(db, { limit: 10 })).map(({ id }) => id)).toEqual([branch.id]);
    await markRemoved(db, branch.id, 6_100);
    expect(await listUnremovedBranches(db, { limit: 10 })).toEqual([]);
    expect(await findBranch(db, branch.id)).toMatchObject({ state: 'deleted', removedAtMs: 6_100 });
    expect(await listBranches(db, { includeDeleted: false, limit: 10 })).toEqual([]);
  });
});
