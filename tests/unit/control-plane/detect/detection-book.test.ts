import { DetectionBook } from '@dumont/control-plane/detect/detection-book.ts';
import type { Verdict } from '@dumont/control-plane/detect/verdict.ts';
import type { WatchBackground } from '@dumont/control-plane/detect/watch.ts';
import type { Database } from '@dumont/control-plane/store/database.ts';
import { listDetection } from '@dumont/control-plane/store/detection.ts';
import { markRented, openLedgerRow } from '@dumont/control-plane/store/ledger.ts';
import { insertOperation } from '@dumont/control-plane/store/operations.ts';
import { newId, type InstanceId } from '@dumont/shared/model/ids.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { expect, test } from 'vitest';
import { onEachDatabase } from '../../../world/databases.ts';
import { eventually } from '../../../world/eventually.ts';
import { FickleDatabase } from '../../../world/fickle-database.ts';
import { ManualClock } from '../../../world/manual-clock.ts';
import { someInstance, someWorkspace } from '../../../world/rows.ts';

const HOUR_MS = 3_600_000;

function openBook(db: Database, clock: ManualClock) {
  const book = new DetectionBook({ db, clock, log: createLogger('test', 'silent') });
  const introduced = new Map<InstanceId, WatchBackground>();
  book.connect({ introduce: (id, background) => void introduced.set(id, background), adapt: () => {} });
  const say = (instanceId: InstanceId, kind: Verdict['kind'], silenceMs = 600) =>
    book.verdict({ kind, instanceId, silenceMs, lastBeatAtMs: 0, evidence: [] });
  const known = (id: InstanceId) => eventually('the instance is known', () => Promise.resolve(introduced.has(id)));
  return { book, introduced, say, known };
}

onEachDatabase((database) => {
  test('mistakes, losses and the time between them are kept and summed by instance, host and provider', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const clock = new ManualClock();
    const workspaceId = await someWorkspace(db);
    const ids = [await someInstance(db, workspaceId), await someInstance(db, workspaceId)] as const;
    const { book, say } = openBook(db, clock);
    for (const id of ids) book.watched(id);
    clock.skip(HOUR_MS);
    say(ids[0], 'suspect');
    clock.skip(400);
    say(ids[0], 'alive', 1_000);
    say(ids[0], 'suspect');
    say(ids[0], 'confirm', 640);
    clock.skip(600);
    say(ids[0], 'alive', 1_200);
    say(ids[1], 'suspect');
    say(ids[1], 'confirm', 700);
    say(ids[1], 'commit', 3_000);
    book.unwatched(ids[1]);
    clock.skip(HOUR_MS);
    book.silenceEnded(ids[1], { silenceMs: 9_000, machine: 'silent', committed: true });
    await book[Symbol.asyncDispose]();

    const list = (by: 'instance' | 'host' | 'provider') => listDetection(db, { by, nowMs: clock.nowMs(), limit: 10 });
    const [first, second] = await list('instance');
    const none = { losses: 0, returned: 0, detectMs: 0, detectMaxMs: 0 };
    expect(first).toMatchObject({
      instanceId: ids[0],
      suspects: 2,
      mistakes: 2,
      mistakeMs: 1_000,
      averted: 1,
      ...none,
    });
    expect(first?.watchedMs).toBe(2 * HOUR_MS + 1_000);
    expect(second).toMatchObject({ instanceId: ids[1], watchedMs: HOUR_MS + 1_000, mistakes: 0, losses: 1 });
    expect(second).toMatchObject({ returned: 1, detectMs: 700, detectMaxMs: 700 });
    const sum = { suspects: 3, mistakes: 2, averted: 1, losses: 1, instanceId: null };
    expect(await list('host')).toMatchObject([{ ...sum, provider: 'local', machineId: 'machine-1' }]);
    expect(await list('provider')).toMatchObject([{ ...sum, provider: 'local', machineId: null }]);
  });

  test('an averted failover costs what the machines rented for it cost, until they are gone', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const clock = new ManualClock();
    const workspaceId = await someWorkspace(db);
    const primary = await someInstance(db, workspaceId);
    const operationId = newId('operation');
    const data = { fromInstanceId: primary };
    await insertOperation(db, { id: operationId, kind: 'failover', workspaceId, state: 'averted', data, atMs: 1_000 });
    const rented = await someInstance(db, workspaceId, { operationId });
    const refused = await someInstance(db, workspaceId, { operationId });
    for (const instanceId of [rented, refused]) {
      const row = { instanceId, provider: 'local', label: instanceId, priceMicroUsdPerHour: 360_000 };
      await openLedgerRow(db, { ...row, atMs: 1_000 });
    }
    await markRented(db, rented, 'ref', clock.nowMs() - 10_000);
    const { book, say } = openBook(db, clock);
    book.watched(primary);
    say(primary, 'suspect');
    say(primary, 'confirm');
    say(primary, 'alive');
    await book[Symbol.asyncDispose]();
    const rows = await listDetection(db, { by: 'provider', nowMs: clock.nowMs(), limit: 10 });
    expect(rows).toMatchObject([{ averted: 1, avertedMicroUsd: 1_000 }]);
  });

  test('what a host did is known to the next control plane, and while the database is away nothing is lost', async () => {
    await using opened = await database.open();
    const db = new FickleDatabase(opened.db);
    const clock = new ManualClock();
    const instanceId = await someInstance(db, await someWorkspace(db));
    const before = openBook(db, clock);
    before.book.watched(instanceId);
    await before.known(instanceId);
    const usual = before.introduced.get(instanceId)?.history.commitDelays(clock.nowMs());
    db.isDown = true;
    before.book.silenceEnded(instanceId, { silenceMs: 9_000, machine: 'lost', committed: false });
    before.say(instanceId, 'suspect');
    before.say(instanceId, 'alive', 9_000);
    await clock.advance(60_000);
    db.isDown = false;
    await before.book[Symbol.asyncDispose]();

    const after = openBook(db, clock);
    after.book.watched(instanceId);
    await after.known(instanceId);
    const learnt = after.introduced.get(instanceId)?.history.commitDelays(clock.nowMs());
    expect(learnt?.agreedMs).toBeGreaterThan(9_000);
    expect(usual?.agreedMs).toBe(6_000);
    await after.book[Symbol.asyncDispose]();
    expect(await listDetection(db, { by: 'host', nowMs: clock.nowMs(), limit: 10 })).toMatchObject([
      { suspects: 1, mistakes: 1, watchedMs: 60_000 },
    ]);
  });
});
