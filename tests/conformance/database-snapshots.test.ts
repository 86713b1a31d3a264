import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import type { CommitOutcome, CommitRequest } from '@dumont/control-plane/store/snapshots.ts';
import {
  adoptInitialSnapshot,
  commitSnapshot,
  findSnapshot,
  listSnapshots,
} from '@dumont/control-plane/store/snapshots.ts';
import { fencePrimary, findWorkspace, promotePrimary } from '@dumont/control-plane/store/workspaces.ts';
import type { Database } from '@dumont/control-plane/store/database.ts';
import type { InstanceId, SnapshotId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { onEachDatabase } from '../world/databases.ts';
import { someInstance, someSnapshot, someWorkspace } from '../world/rows.ts';

/** A workspace with a primary at epoch 0, and what that primary would ask to commit. */
async function primaryOf(db: Database) {
  const workspaceId = await someWorkspace(db);
  const instanceId = await someInstance(db, workspaceId);
  await promotePrimary(db, workspaceId, instanceId, 0);
  const request = (parentId: SnapshotId | null, over: Partial<CommitRequest> = {}): CommitRequest => ({
    workspaceId,
    instanceId,
    epoch: 0,
    record: someSnapshot(parentId),
    storage: 'file',
    atMs: 5_000,
    ...over,
  });
  return { workspaceId, instanceId, request };
}

onEachDatabase((database) => {
  test('snapshots chain, each on the head before it, and are listed newest first', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const { workspaceId, instanceId, request } = await primaryOf(db);
    let head: SnapshotId | null = null;
    for (let seq = 1; seq <= 5; seq += 1) {
      const commit = request(head);
      const outcome = await commitSnapshot(db, commit);
      expect(outcome).toMatchObject({ kind: 'committed', isNew: true, snapshot: { seq, epoch: 0, instanceId } });
      expect((await findSnapshot(db, commit.record.snapshotId))?.record).toEqual(commit.record);
      head = commit.record.snapshotId;
    }
    expect((await findWorkspace(db, workspaceId))?.headSnapshotId).toBe(head);
    const page = await listSnapshots(db, { workspaceId, limit: 3 });
    expect(page.map((row) => row.seq)).toEqual([5, 4, 3]);
    const rest = await listSnapshots(db, { workspaceId, belowSeq: 3, limit: 3 });
    expect(rest.map((row) => row.seq)).toEqual([2, 1]);
  });

  test('of many committers with the same parent one wins, the others learn the new head', async () => {
    await using opened = await database.open();
    const { workspaceId, request } = await primaryOf(opened.db);
    const connections = await Promise.all([1, 2, 3, 4].map(() => opened.connect()));
    let head: SnapshotId | null = null;
    for (let round = 1; round <= 5; round += 1) {
      const parent: SnapshotId | null = head;
      const outcomes: readonly CommitOutcome[] = await Promise.all(
        [...connections, ...connections].map((db) => commitSnapshot(db, request(parent))),
      );
      const winners = outcomes.filter((outcome) => outcome.kind === 'committed');
      expect(winners).toHaveLength(1);
      head = must(winners[0], 'one winner').snapshot.id;
      const losers = outcomes.filter((outcome) => outcome.kind === 'stale-parent');
      expect(losers.map((loser) => loser.head?.id)).toEqual(Array.from({ length: 7 }, () => head));
      expect((await findWorkspace(opened.db, workspaceId))?.headSnapshotId).toBe(head);
    }
    for (const db of connections) await db[Symbol.asyncDispose]();
  });

  test('a stale epoch, another instance and an unknown workspace commit nothing', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const { workspaceId, instanceId, request } = await primaryOf(db);
    const stranger = await someInstance(db, workspaceId);
    expect(await commitSnapshot(db, request(null, { instanceId: stranger }))).toEqual({
      kind: 'stale-epoch',
      epoch: 0,
    });
    expect(await commitSnapshot(db, request(null, { workspaceId: newId('workspace') }))).toMatchObject({
      kind: 'stale-epoch',
    });
    await fencePrimary(db, workspaceId, instanceId);
    expect(await commitSnapshot(db, request(null))).toEqual({ kind: 'stale-epoch', epoch: 1 });
    await promotePrimary(db, workspaceId, stranger, 1);
    expect(await commitSnapshot(db, request(null))).toEqual({ kind: 'stale-epoch', epoch: 1 });
    expect(await listSnapshots(db, { workspaceId, limit: 10 })).toEqual([]);
  });

  test('a commit and a fence that meet leave either a head before the fence or none after it', async () => {
    await using opened = await database.open();
    const { db } = opened;
    for (let round = 0; round < 10; round += 1) {
      const { workspaceId, instanceId, request } = await primaryOf(db);
      const [outcome, fenced] = await Promise.all([
        commitSnapshot(db, request(null)),
        db.transaction((tx) => fencePrimary(tx, workspaceId, instanceId)),
      ]);
      expect(fenced).toMatchObject({ epoch: 1 });
      const head = (await findWorkspace(db, workspaceId))?.headSnapshotId;
      if (outcome.kind === 'committed') expect(head).toBe(outcome.snapshot.id);
      else expect([outcome, head]).toEqual([{ kind: 'stale-epoch', epoch: 1 }, null]);
    }
  });

  test('repeating a commit answers the same without a change, also after a fence', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const { workspaceId, instanceId, request } = await primaryOf(db);
    const first = request(null);
    const repeats = await Promise.all([first, first, first].map((same) => commitSnapshot(db, same)));
    expect(repeats.map((outcome) => outcome.kind)).toEqual(['committed', 'committed', 'committed']);
    expect(repeats.filter((outcome) => outcome.kind === 'committed' && outcome.isNew)).toHaveLength(1);
    await fencePrimary(db, workspaceId, instanceId);
    expect(await commitSnapshot(db, first)).toMatchObject({ kind: 'committed', isNew: false, snapshot: { seq: 1 } });
    expect(await listSnapshots(db, { workspaceId, limit: 10 })).toHaveLength(1);
  });

  test('a snapshot id that another workspace has is refused', async () => {
    await using opened = await database.open();
    const [one, other] = [await primaryOf(opened.db), await primaryOf(opened.db)];
    const request = one.request(null);
    await commitSnapshot(opened.db, request);
    const stolen = commitSnapshot(opened.db, other.request(null, { record: request.record }));
    await expect(stolen).rejects.toMatchObject({ code: 'CONFLICT', field: 'snapshotId' });
  });

  test('a snapshot made before the first machine is adopted as head and built upon', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const { workspaceId, request } = await primaryOf(db);
    const record = someSnapshot();
    await db.transaction((tx) =>
      adoptInitialSnapshot(tx, { workspaceId, epoch: 0, record, storage: 'file', atMs: 1_000 }),
    );
    expect(await findSnapshot(db, record.snapshotId)).toMatchObject({ seq: 1, instanceId: null });
    const next = await commitSnapshot(db, request(record.snapshotId));
    expect(next).toMatchObject({ kind: 'committed', snapshot: { seq: 2 } });
  });

  test('any interleaving of commits, fences and promotions keeps one unbroken chain', { timeout: 60_000 }, async () => {
    await using opened = await database.open();
    const { db } = opened;
    const action = fc.oneof(
      fc.record({ kind: fc.constant('commit' as const), by: fc.nat(2), staleBy: fc.nat(1) }),
      fc.record({ kind: fc.constant('fence' as const), by: fc.nat(2) }),
      fc.record({ kind: fc.constant('promote' as const), by: fc.nat(2) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(action, { minLength: 1, maxLength: 4 }), { maxLength: 8 }), async (rounds) => {
        const workspaceId = await someWorkspace(db);
        const instances: InstanceId[] = [];
        for (let count = 0; count < 3; count += 1) instances.push(await someInstance(db, workspaceId));
        for (const round of rounds) {
          const now = must(await findWorkspace(db, workspaceId), 'it was inserted');
          await Promise.all(
            round.map((step) => {
              const instanceId = must(instances[step.by], 'one of three');
              if (step.kind === 'fence') return db.transaction((tx) => fencePrimary(tx, workspaceId, instanceId));
              if (step.kind === 'promote') {
                return db.transaction((tx) => promotePrimary(tx, workspaceId, instanceId, now.epoch));
              }
              const record = someSnapshot(now.headSnapshotId);
              const epoch = now.epoch - step.staleBy;
              return commitSnapshot(db, { workspaceId, instanceId, epoch, record, storage: 'file', atMs: 1 });
            }),
          );
        }
        const chain = (await listSnapshots(db, { workspaceId, limit: 100 })).toReversed();
        const ids = chain.map((row) => row.id);
        expect(chain.map((row) => row.record.parentId)).toEqual([null, ...ids].slice(0, ids.length));
        expect(chain.map((row) => row.epoch)).toEqual(chain.map((row) => row.epoch).toSorted((a, b) => a - b));
        expect((await findWorkspace(db, workspaceId))?.headSnapshotId ?? undefined).toBe(ids.at(-1));
      }),
      { numRuns: 25 },
    );
  });
});
