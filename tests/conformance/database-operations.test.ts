import { expect, test } from 'vitest';
import type { Database, Queryable } from '@dumont/control-plane/store/database.ts';
import {
  ONE_MOVER_INDEX,
  claimOperation,
  claimOperations,
  findOperation,
  insertOperation,
  listOperations,
  renewLease,
  saveProgress,
  yieldOperation,
} from '@dumont/control-plane/store/operations.ts';
import { isUniqueViolation } from '@dumont/control-plane/store/serialization.ts';
import { endStep, listSteps, startStep } from '@dumont/control-plane/store/steps.ts';
import type { OperationId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { onEachDatabase } from '../world/databases.ts';
import { someWorkspace } from '../world/rows.ts';

const KINDS = ['failover', 'provision', 'release'];

async function insert(db: Queryable, workspaceId: WorkspaceId, atMs = 1_000): Promise<OperationId> {
  const id = newId('operation');
  await insertOperation(db, { id, kind: 'failover', workspaceId, state: 'searching', data: { attempt: 0 }, atMs });
  return id;
}

async function several(db: Database, count: number): Promise<readonly OperationId[]> {
  const ids: OperationId[] = [];
  for (let index = 0; index < count; index += 1) ids.push(await insert(db, await someWorkspace(db), 1_000 + index));
  return ids;
}

const claimAs = (owner: string, nowMs = 2_000) => ({ owner, kinds: KINDS, nowMs, leaseMs: 100 });

onEachDatabase((database) => {
  test('a workspace is moved by one operation at a time', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const workspaceId = await someWorkspace(db);
    const outcomes = await Promise.allSettled(Array.from({ length: 6 }, () => insert(db, workspaceId)));
    const refusals = outcomes.filter((outcome) => outcome.status === 'rejected');
    expect(refusals).toHaveLength(5);
    for (const refusal of refusals) expect(isUniqueViolation(refusal.reason, ONE_MOVER_INDEX)).toBe(true);
    const [claimed] = await claimOperations(db, { ...claimAs('me'), limit: 1, except: [] });
    const change = { owner: 'me', fromState: 'searching', state: 'completed', data: {}, atMs: 3_000, runAtMs: null };
    expect(await saveProgress(db, claimed?.id as OperationId, { ...change, finished: true, error: null })).toBe(true);
    await insert(db, workspaceId);
  });

  test('each due operation goes to one of the owners that claim together', async () => {
    await using opened = await database.open();
    const ids = await several(opened.db, 20);
    const owners = await Promise.all(
      ['a', 'b', 'c', 'd'].map(async (owner) => ({ owner, db: await opened.connect() })),
    );
    const claimed: OperationId[] = [];
    for (let round = 0; round < 20 && claimed.length < ids.length; round += 1) {
      const batches = await Promise.all(
        owners.map(({ owner, db }) => claimOperations(db, { ...claimAs(owner), limit: 3, except: [] })),
      );
      for (const row of batches.flat()) claimed.push(row.id);
    }
    expect(claimed.toSorted()).toEqual(ids.toSorted());
    for (const { db } of owners) await db[Symbol.asyncDispose]();
  });

  test('claims take what is due longest, of known kinds, and leave what is excepted, leased or waits', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const [waiting, leased, excepted, foreign, dueLate, dueEarly] = (await several(db, 6)) as [
      OperationId,
      OperationId,
      OperationId,
      OperationId,
      OperationId,
      OperationId,
    ];
    await db.query('update operations set run_at = 2001 where id = $1', [waiting]);
    await db.query(`update operations set kind = 'newer' where id = $1`, [foreign]);
    await db.query('update operations set run_at = 7 where id = $1', [dueLate]);
    expect(await claimOperation(db, leased, claimAs('other'))).toMatchObject({
      leaseOwner: 'other',
      leaseUntilMs: 2_100,
    });
    const rows = await claimOperations(db, { ...claimAs('me'), limit: 10, except: [excepted] });
    expect(rows.map((row) => row.id).toSorted()).toEqual([dueEarly, dueLate].toSorted());
    const later = await claimOperations(db, {
      ...claimAs('me', 2_100),
      limit: 1,
      except: [excepted, dueEarly, dueLate],
    });
    expect(later.map((row) => row.id)).toEqual([leased]);
    expect(await claimOperation(db, foreign, claimAs('me'))).toBeUndefined();
    // One by name is taken before it is due, but not from a living owner.
    expect(await claimOperation(db, waiting, claimAs('me'))).toMatchObject({ id: waiting });
    expect(await claimOperation(db, waiting, claimAs('other'))).toBeUndefined();
  });

  test('a lease is renewed, saved under and given back by its owner alone', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const [id] = (await several(db, 1)) as [OperationId];
    await claimOperation(db, id, claimAs('me'));
    expect(await renewLease(db, id, { owner: 'me', untilMs: 5_000 })).toBe(true);
    expect(await renewLease(db, id, { owner: 'other', untilMs: 9_000 })).toBe(false);
    const change = { fromState: 'searching', state: 'provisioning', atMs: 3_000, finished: false, runAtMs: null };
    expect(await saveProgress(db, id, { ...change, owner: 'other', data: { attempt: 9 }, error: 'no' })).toBe(false);
    expect(await saveProgress(db, id, { ...change, owner: 'me', data: { attempt: 1 }, error: 'slow market' })).toBe(
      true,
    );
    expect(await saveProgress(db, id, { ...change, owner: 'me', data: { attempt: 2 }, error: null })).toBe(false);
    await yieldOperation(db, id, { owner: 'other', runAtMs: 1 });
    expect(await findOperation(db, id)).toMatchObject({
      state: 'provisioning',
      data: { attempt: 1 },
      error: 'slow market',
      leaseOwner: 'me',
      leaseUntilMs: 5_000,
      updatedAtMs: 3_000,
      createdAtMs: 1_000,
    });
    await yieldOperation(db, id, { owner: 'me', runAtMs: 7_000 });
    expect(await findOperation(db, id)).toMatchObject({ leaseOwner: null, leaseUntilMs: 0, runAtMs: 7_000 });
    await claimOperation(db, id, claimAs('me'));
    const end = { ...change, fromState: 'provisioning', state: 'failed', owner: 'me', data: {}, finished: true };
    expect(await saveProgress(db, id, { ...end, error: null })).toBe(true);
    expect(await findOperation(db, id)).toMatchObject({ finishedAtMs: 3_000, leaseOwner: null, error: 'slow market' });
    expect(await renewLease(db, id, { owner: 'me', untilMs: 9_000 })).toBe(false);
    expect(await claimOperation(db, id, claimAs('me', 99_000))).toBeUndefined();
    expect(await claimOperations(db, { ...claimAs('me', 99_000), limit: 9, except: [] })).toEqual([]);
  });

  test('operations are paged newest first and filtered by kind, workspace and state', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const ids = await several(db, 5);
    await db.query('update operations set created_at = 1001 where id = any ($1)', [ids.slice(1, 4)]);
    const seen: OperationId[] = [];
    for (;;) {
      const page = await listOperations(db, { kind: 'failover', state: 'searching', before: seen.at(-1), limit: 2 });
      if (page.length === 0) break;
      seen.push(...page.map((row) => row.id));
    }
    expect(seen.toSorted()).toEqual(ids.toSorted());
    expect([seen[0], seen[4]]).toEqual([ids[4], ids[0]]);
    const workspaceId = (await findOperation(db, ids[2] as OperationId))?.workspaceId as WorkspaceId;
    expect((await listOperations(db, { workspaceId, limit: 9 })).map((row) => row.id)).toEqual([ids[2]]);
    expect(await listOperations(db, { kind: 'release', limit: 9 })).toEqual([]);
    expect(await listOperations(db, { state: 'failed', limit: 9 })).toEqual([]);
  });

  test('a step left open by a crash is continued; an ended one is followed by the next', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const [id] = (await several(db, 1)) as [OperationId];
    expect(await startStep(db, id, 'searching', 10)).toEqual({ position: 1, startedAtMs: 10, isNew: true });
    expect(await startStep(db, id, 'searching', 99)).toEqual({ position: 1, startedAtMs: 10, isNew: false });
    const end = { position: 1, atMs: 30, durationMs: 20.25, outcome: 'attemptFailed', detail: { offers: ['a'] } };
    await endStep(db, id, end);
    expect(await startStep(db, id, 'searching', 31)).toEqual({ position: 2, startedAtMs: 31, isNew: true });
    expect(await listSteps(db, id)).toEqual([
      {
        step: 'searching',
        startedAtMs: 10,
        endedAtMs: 30,
        durationMs: 20.25,
        outcome: 'attemptFailed',
        detail: { offers: ['a'] },
      },
      { step: 'searching', startedAtMs: 31, endedAtMs: null, durationMs: null, outcome: null, detail: {} },
    ]);
  });
});
