import { expect, test } from 'vitest';
import type { Database } from '@dumont/control-plane/store/database.ts';
import { appendEvent } from '@dumont/control-plane/store/events.ts';
import { applyInstanceEvent, findInstance } from '@dumont/control-plane/store/instances.ts';
import { insertOperation } from '@dumont/control-plane/store/operations.ts';
import type { CommitRequest } from '@dumont/control-plane/store/snapshots.ts';
import { commitSnapshot } from '@dumont/control-plane/store/snapshots.ts';
import {
  dropStandby,
  listLeftOnStandby,
  nameStandby,
  primaryRolesOf,
  promoteStandby,
  standbysOf,
} from '@dumont/control-plane/store/standbys.ts';
import { findReturn, findTakeover, findUnusedStandby } from '@dumont/control-plane/store/takeovers.ts';
import {
  fencePrimary,
  findWorkspace,
  listUnserved,
  promotePrimary,
  setEndpoint,
} from '@dumont/control-plane/store/workspaces.ts';
import { type InstanceId, newId } from '@dumont/shared/model/ids.ts';
import { onEachDatabase } from '../world/databases.ts';
import { someInstance, someSnapshot, someWorkspace } from '../world/rows.ts';

/** A workspace with a primary at epoch 0 and a standby that is up. */
async function followedWorkspace(db: Database) {
  const workspaceId = await someWorkspace(db);
  const primary = await someInstance(db, workspaceId);
  const standby = await someInstance(db, workspaceId);
  await db.query("update instances set role = 'standby' where id = $1", [standby]);
  await applyInstanceEvent(db, standby, 'agentReady', 1_000);
  await promotePrimary(db, workspaceId, primary, 0);
  await nameStandby(db, workspaceId, standby);
  const seen = { primaryId: primary, standbyId: standby, headSnapshotId: null };
  const commit = (instanceId: InstanceId, over: Partial<CommitRequest> = {}) =>
    commitSnapshot(db, {
      workspaceId,
      instanceId,
      epoch: 0,
      record: someSnapshot(null),
      storage: 'file',
      atMs: 5_000,
      ...over,
    });
  return { workspaceId, primary, standby, seen, commit };
}

onEachDatabase((database) => {
  test('a takeover fences the one, promotes the other and points users at it, once', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const { workspaceId, primary, standby, seen, commit } = await followedWorkspace(db);
    expect(await commit(standby)).toMatchObject({ kind: 'stale-epoch' });
    const after = { epoch: 1, primaryInstanceId: standby, endpointInstanceId: standby, standbyInstanceId: null };
    expect(await promoteStandby(db, workspaceId, seen)).toMatchObject(after);
    expect(await promoteStandby(db, workspaceId, seen)).toBeUndefined();
    expect(await findWorkspace(db, workspaceId)).toMatchObject(after);
    expect(await fencePrimary(db, workspaceId, primary)).toBeUndefined();
    expect((await findInstance(db, standby))?.epoch).toBe(1);
    expect(await commit(primary)).toMatchObject({ kind: 'stale-epoch', epoch: 1 });
    expect(await commit(primary, { epoch: 1 })).toMatchObject({ kind: 'stale-epoch', epoch: 1 });
    expect(await commit(standby, { epoch: 1 })).toMatchObject({ kind: 'committed' });
    expect((await primaryRolesOf(db, [workspaceId])).get(workspaceId)).toBe('standby');
  });

  test('nothing is changed where anything is not as it was seen', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const { workspaceId, primary, seen, standby } = await followedWorkspace(db);
    const other = await someInstance(db, workspaceId);
    const before = await findWorkspace(db, workspaceId);
    expect(await promoteStandby(db, workspaceId, { ...seen, primaryId: other })).toBeUndefined();
    expect(await promoteStandby(db, workspaceId, { ...seen, standbyId: other })).toBeUndefined();
    expect(await promoteStandby(db, workspaceId, { ...seen, headSnapshotId: newId('snapshot') })).toBeUndefined();
    await applyInstanceEvent(db, standby, 'lost', 2_000);
    expect(await promoteStandby(db, workspaceId, seen)).toBeUndefined();
    expect(await findWorkspace(db, workspaceId)).toEqual(before);
    expect(before?.primaryInstanceId).toBe(primary);
  });

  test('of a commit by the old primary and a takeover at the same moment one wins, and nobody commits under the old epoch after it', async () => {
    await using opened = await database.open();
    const { db } = opened;
    for (let round = 0; round < 20; round += 1) {
      const { workspaceId, primary, standby, seen, commit } = await followedWorkspace(db);
      const record = someSnapshot(null);
      const early = round % 2 === 0 ? promoteStandby(db, workspaceId, seen) : null;
      const committing = commit(primary, { record });
      const promoted = await (early ?? promoteStandby(db, workspaceId, seen));
      const isCommitted = (await committing).kind === 'committed';
      const workspace = await findWorkspace(db, workspaceId);
      expect(isCommitted).toBe(promoted === undefined);
      expect(workspace).toMatchObject(
        isCommitted
          ? { epoch: 0, primaryInstanceId: primary, headSnapshotId: record.snapshotId }
          : { epoch: 1, primaryInstanceId: standby, headSnapshotId: null },
      );
      if (isCommitted) continue;
      expect(await commit(primary)).toMatchObject({ kind: 'stale-epoch' });
    }
  });

  test('a workspace has one standby: another is named only after it was dropped', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const { workspaceId, standby } = await followedWorkspace(db);
    const other = await someInstance(db, workspaceId);
    expect(await nameStandby(db, workspaceId, standby)).toBe(true);
    expect(await nameStandby(db, workspaceId, other)).toBe(false);
    expect(await dropStandby(db, workspaceId, other)).toBe(false);
    expect(await dropStandby(db, workspaceId, standby)).toBe(true);
    expect(await nameStandby(db, workspaceId, other)).toBe(true);
    expect((await standbysOf(db, [workspaceId])).get(workspaceId)?.id).toBe(other);
  });

  test('who was left on the standby is found, but not while a failover runs nor soon after one that failed', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const { workspaceId, seen } = await followedWorkspace(db);
    const left = async (notFailedSinceMs: number) =>
      (await listLeftOnStandby(db, notFailedSinceMs)).map(({ id }) => id);
    expect(await left(0)).toEqual([]);
    await promoteStandby(db, workspaceId, seen);
    expect(await left(0)).toEqual([workspaceId]);
    const id = newId('operation');
    await insertOperation(db, { id, kind: 'failover', workspaceId, state: 'failed', data: {}, atMs: 1 });
    expect(await left(0)).toEqual([]);
    await db.query('update operations set finished_at = 5000 where id = $1', [id]);
    expect(await left(4_999)).toEqual([]);
    expect(await left(5_000)).toEqual([workspaceId]);
  });

  test('who is served by nobody is found at once, after a failover that gave up only later, never one that was stopped', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const { workspaceId, primary } = await followedWorkspace(db);
    const found = async (notFailedSinceMs: number) => (await listUnserved(db, notFailedSinceMs)).map(({ id }) => id);
    await setEndpoint(db, workspaceId, primary);
    expect(await found(0)).toEqual([]);
    await fencePrimary(db, workspaceId, primary);
    expect(await found(0)).toEqual([workspaceId]);
    const id = newId('operation');
    await insertOperation(db, { id, kind: 'failover', workspaceId, state: 'searching', data: {}, atMs: 1 });
    expect(await found(0)).toEqual([]);
    await db.query("update operations set finished_at = 5000, state = 'failed' where id = $1", [id]);
    expect(await found(4_999)).toEqual([]);
    expect(await found(5_000)).toEqual([workspaceId]);
    await db.query("update operations set state = 'completed' where id = $1", [id]);
    expect(await found(0)).toEqual([workspaceId]);
    await setEndpoint(db, workspaceId, null);
    expect(await found(5_000)).toEqual([]);
  });

  test('the history tells of takeovers, of the way back and of standbys that were not used', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const { workspaceId, primary, standby } = await followedWorkspace(db);
    const operationId = newId('operation');
    const during = { workspaceId, operationId, fromInstanceId: primary };
    expect(await findTakeover(db, during)).toBeUndefined();
    expect(await findUnusedStandby(db, workspaceId, operationId)).toBeUndefined();
    const about = { atMs: 7_000, workspaceId, instanceId: standby, operationId };
    await appendEvent(db, { ...about, type: 'standby.not-used', data: { reason: 'away' } });
    const data = { from: primary, epoch: 1, behindMs: 12.5 };
    await appendEvent(db, { ...about, type: 'workspace.on-standby', data });
    const takeover = { standbyId: standby, operationId, atMs: 7_000, epoch: 1, behindMs: 12.5 };
    expect(await findTakeover(db, during)).toEqual(takeover);
    // Another operation that moves users away from that standby.
    const later = { workspaceId, operationId: newId('operation'), fromInstanceId: standby };
    expect(await findTakeover(db, later)).toEqual(takeover);
    expect(await findUnusedStandby(db, workspaceId, operationId)).toEqual({ standbyId: standby, reason: 'away' });
    expect(await findReturn(db, workspaceId, standby)).toBeUndefined();
    const back = { from: standby, epoch: 2, handedOver: true, servedMs: 9_000, pauseMs: 300 };
    await appendEvent(db, { ...about, type: 'workspace.back', data: back });
    expect(await findReturn(db, workspaceId, standby)).toEqual(back);
  });
});
