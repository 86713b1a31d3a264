import { expect, test } from 'vitest';
import type { Database } from '@dumont/control-plane/store/database.ts';
import type { CommitRequest } from '@dumont/control-plane/store/snapshots.ts';
import { commitSnapshot } from '@dumont/control-plane/store/snapshots.ts';
import {
  dropStandby,
  forbidStandbySave,
  nameStandby,
  permitStandbySave,
  standbysOf,
} from '@dumont/control-plane/store/standbys.ts';
import { fencePrimary, findWorkspace, promotePrimary } from '@dumont/control-plane/store/workspaces.ts';
import { onEachDatabase } from '../world/databases.ts';
import { someInstance, someSnapshot, someWorkspace } from '../world/rows.ts';

/** A workspace whose primary was fenced at epoch 0, and its standby. */
async function fencedWorkspace(db: Database) {
  const workspaceId = await someWorkspace(db);
  const primary = await someInstance(db, workspaceId);
  const standby = await someInstance(db, workspaceId);
  await promotePrimary(db, workspaceId, primary, 0);
  await nameStandby(db, workspaceId, standby);
  const commit = (over: Partial<CommitRequest> = {}) =>
    commitSnapshot(db, {
      workspaceId,
      instanceId: standby,
      epoch: 1,
      record: someSnapshot(null),
      storage: 'file',
      atMs: 5_000,
      ...over,
    });
  return { workspaceId, primary, standby, commit };
}

onEachDatabase((database) => {
  test('a standby commits nothing unless it is let, and then once', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const { workspaceId, primary, standby, commit } = await fencedWorkspace(db);
    expect(await permitStandbySave(db, workspaceId, { instanceId: standby, epoch: 0 })).toBe(false);
    expect(await commit({ epoch: 0 })).toMatchObject({ kind: 'stale-epoch' });
    await fencePrimary(db, workspaceId, primary);
    expect(await commit()).toMatchObject({ kind: 'stale-epoch' });
    expect(await permitStandbySave(db, workspaceId, { instanceId: primary, epoch: 1 })).toBe(false);
    expect(await permitStandbySave(db, workspaceId, { instanceId: standby, epoch: 0 })).toBe(false);
    expect(await permitStandbySave(db, workspaceId, { instanceId: standby, epoch: 1 })).toBe(true);
    // The one that was fenced, and the standby under the old epoch.
    expect(await commit({ instanceId: primary })).toMatchObject({ kind: 'stale-epoch' });
    expect(await commit({ epoch: 0 })).toMatchObject({ kind: 'stale-epoch' });
    const record = someSnapshot(null);
    expect(await commit({ record })).toMatchObject({ kind: 'committed', isNew: true });
    expect(await commit({ record })).toMatchObject({ kind: 'committed', isNew: false });
    expect(await commit({ record: someSnapshot(record.snapshotId) })).toMatchObject({ kind: 'stale-epoch' });
    expect((await findWorkspace(db, workspaceId))?.headSnapshotId).toBe(record.snapshotId);
  });

  test.each(['forbidden', 'promoted', 'dropped'] as const)(
    'what a standby was let do ends when it is %s',
    async (how) => {
      await using opened = await database.open();
      const { db } = opened;
      const { workspaceId, primary, standby, commit } = await fencedWorkspace(db);
      await fencePrimary(db, workspaceId, primary);
      await permitStandbySave(db, workspaceId, { instanceId: standby, epoch: 1 });
      const next = await someInstance(db, workspaceId);
      if (how === 'forbidden') await forbidStandbySave(db, workspaceId);
      if (how === 'promoted') await promotePrimary(db, workspaceId, next, 1);
      if (how === 'dropped') await dropStandby(db, workspaceId, standby);
      expect(await commit()).toMatchObject({ kind: 'stale-epoch', epoch: 1 });
      expect((await findWorkspace(db, workspaceId))?.standbySaveEpoch).toBeNull();
    },
  );

  test('a workspace has one standby: another is named only after it was dropped', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const { workspaceId, standby } = await fencedWorkspace(db);
    const other = await someInstance(db, workspaceId);
    expect(await nameStandby(db, workspaceId, standby)).toBe(true);
    expect(await nameStandby(db, workspaceId, other)).toBe(false);
    expect(await dropStandby(db, workspaceId, other)).toBe(false);
    expect(await dropStandby(db, workspaceId, standby)).toBe(true);
    expect(await nameStandby(db, workspaceId, other)).toBe(true);
    expect((await standbysOf(db, [workspaceId])).get(workspaceId)?.id).toBe(other);
  });
});
