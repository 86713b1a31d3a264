import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EventFeed } from '@dumont/control-plane/live/event-feed.ts';
import type { Database } from '@dumont/control-plane/store/database.ts';
import { appendEvent } from '@dumont/control-plane/store/events.ts';
import { openDatabase } from '@dumont/control-plane/store/open-database.ts';
import type { EventView } from '@dumont/shared/api/views.ts';
import type { WorkspaceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { ManualClock } from '@dumont/tests/world/manual-clock.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';

let directory: string;
let db: Database;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'dumont-feed-'));
  db = await openDatabase({ databaseUrl: undefined, dataDirectory: directory });
});
afterAll(async () => {
  await db[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

async function append(count: number, workspaceId: WorkspaceId | null = null): Promise<number[]> {
  const ids: number[] = [];
  for (let index = 0; index < count; index += 1) {
    ids.push((await appendEvent(db, { type: 'operation.step', atMs: index, workspaceId })).eventId);
  }
  return ids;
}

/** The next `count` ids of a stream; then the stream is closed. */
async function take(stream: AsyncIterable<EventView>, count: number): Promise<number[]> {
  const ids: number[] = [];
  for await (const event of stream) {
    ids.push(event.eventId);
    if (ids.length === count) break;
  }
  return ids;
}

const never = new AbortController().signal;

test('a reader gets what is there, in order and across batches, and then what comes', async () => {
  await using feed = new EventFeed({ db, clock: systemClock, pollMs: 3_600_000 });
  const before = await append(450);
  const taken = take(feed.stream({ after: (before[0] ?? 0) - 1, signal: never }), 453);
  const later = await append(3);
  feed.wake();
  expect(await taken).toEqual([...before, ...later]);
});

test('without a wake the poll finds events of other replicas', async () => {
  const clock = new ManualClock();
  await using feed = new EventFeed({ db, clock, pollMs: 1_000 });
  const [last = 0] = await append(1);
  const taken = take(feed.stream({ after: last, signal: never }), 1);
  const appended = await append(1);
  const progress = { isDone: false };
  void taken.then(() => (progress.isDone = true));
  while (!progress.isDone) {
    await clock.advance(1_000);
    // A query, so that the feed's own queries before it are done.
    await db.query('select 1');
  }
  expect(await taken).toEqual(appended);
});

test('a workspace filter shows only its events, and moves past the others', async () => {
  await using feed = new EventFeed({ db, clock: systemClock, pollMs: 3_600_000 });
  const mine = newId('workspace');
  const [last = 0] = await append(1);
  const taken = take(feed.stream({ after: last, workspaceId: mine, signal: never }), 3);
  const first = await append(1, mine);
  await append(300, newId('workspace'));
  feed.wake();
  const rest = await append(2, mine);
  feed.wake();
  expect(await taken).toEqual([...first, ...rest]);
});

test('many readers see every event once while writers append at the same time', async () => {
  await using feed = new EventFeed({ db, clock: systemClock, pollMs: 20 });
  const [last = 0] = await append(1);
  const readers = Array.from({ length: 5 }, () => take(feed.stream({ after: last, signal: never }), 200));
  const writers = Array.from({ length: 4 }, async () => {
    const ids: number[] = [];
    for (let index = 0; index < 50; index += 1) {
      ids.push(...(await append(1)));
      if (index % 3 === 0) feed.wake();
    }
    return ids;
  });
  const written = (await Promise.all(writers)).flat().toSorted((a, b) => a - b);
  for (const seen of await Promise.all(readers)) expect(seen).toEqual(written);
});

test('an aborted reader and a disposed feed end normally', async () => {
  const feed = new EventFeed({ db, clock: systemClock });
  const [last = 0] = await append(1);
  const stop = new AbortController();
  const aborted = take(feed.stream({ after: last, signal: stop.signal }), 1);
  const disposed = take(feed.stream({ after: last, signal: never }), 1);
  stop.abort();
  expect(await aborted).toEqual([]);
  await feed[Symbol.asyncDispose]();
  expect(await disposed).toEqual([]);
});
