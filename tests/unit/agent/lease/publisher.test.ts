import type { CreateOutcome, WorkspaceEngine } from '@dumont/agent/lease/engine.ts';
import { Publisher } from '@dumont/agent/lease/publisher.ts';
import { DirtySet } from '@dumont/agent/workspace/dirty-set.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import type { SnapshotRecord, SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import type { SnapshotVerdict } from '@dumont/shared/protocol/snapshot.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { expect, test } from 'vitest';
import { ManualClock } from '../../../world/manual-clock.ts';

function record(parent: SnapshotRef | null): SnapshotRecord {
  return {
    snapshotId: newId('snapshot'),
    manifestKey: 'manifests/x',
    manifestHash: 'a'.repeat(64),
    parentId: parent?.snapshotId ?? null,
    startedAtMs: 1,
    createMs: 1,
    fileCount: 1,
    totalBytes: 1,
    newBytes: 1,
    storedBytes: 1,
    tornPaths: [],
  };
}

/** A publisher with our own ports in memory: what the engine made and what the control plane says are scripted. */
function setUp(inheritedSinceMs: number | null = null) {
  const clock = new ManualClock();
  const dirtySet = new DirtySet();
  const parents: (string | null)[] = [];
  const script = {
    create: (parent: SnapshotRef | null): Promise<CreateOutcome> =>
      Promise.resolve({ kind: 'created', record: record(parent), tornPaths: [] }),
    commit: (): Promise<SnapshotVerdict['verdict']> => Promise.resolve({ kind: 'committed', seq: 1 }),
    online: true,
  };
  const engine: WorkspaceEngine = {
    renew: () => {},
    ignoreRules: () => Promise.reject(new Error('not asked')),
    restore: () => Promise.reject(new Error('not asked')),
    check: () => Promise.reject(new Error('not part of this test')),
    compare: () => Promise.reject(new Error('not asked')),
    merge: () => Promise.reject(new Error('not asked')),
    create: ({ parent }) => {
      parents.push(parent?.snapshotId ?? null);
      return script.create(parent);
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  const saved: number[] = [];
  const publisher = new Publisher({
    unsavedSinceMs: inheritedSinceMs,
    onSaved: (beforeWallMs) => saved.push(beforeWallMs),
    engine,
    dirty: {
      get isDirty() {
        return dirtySet.sinceMonotonicMs !== null;
      },
      get sinceMonotonicMs() {
        return dirtySet.sinceMonotonicMs;
      },
      get paths() {
        return dirtySet.paths;
      },
      take: () => dirtySet.take(),
      restore: (mark) => {
        dirtySet.restore(mark);
        publisher.nudge();
      },
    },
    commit: () => script.commit(),
    isOnline: () => script.online,
    epoch: 4,
    head: null,
    intervalMs: 10_000,
    clock,
    random: seededRandom(1),
    log: createLogger('test', 'silent'),
  });
  const touch = (path: string) => {
    dirtySet.mark(path, clock.monotonicMs());
    publisher.nudge();
  };
  return { clock, dirtySet, parents, script, publisher, saved, touch };
}

test('while changes go on, snapshots come once per interval, each on the one before', async () => {
  const { clock, parents, publisher, touch } = setUp();
  for (let second = 0; second < 40; second += 1) {
    touch('log');
    await clock.advance(1_000);
  }
  expect(parents).toHaveLength(4);
  expect(new Set(parents).size).toBe(4);
  expect(parents[0]).toBeNull();
  await publisher.stop(new DumontError('ABORTED', 'over'));
});

test('without changes, or without contact, nothing is published', async () => {
  const { clock, parents, script, publisher, touch } = setUp();
  await clock.advance(60_000);
  script.online = false;
  touch('a');
  await clock.advance(60_000);
  expect(parents).toEqual([]);
  expect(publisher.unsavedSinceMs).toBe(60_000);
  script.online = true;
  publisher.nudge();
  await clock.advance(1_000);
  expect(parents).toHaveLength(1);
  expect(publisher.unsavedSinceMs).toBeNull();
});

test('a failed snapshot loses no change and is tried again, later each time', async () => {
  const { clock, parents, script, publisher, touch } = setUp();
  const works = script.create;
  script.create = () => Promise.reject(new DumontError('UNAVAILABLE', 'the store is away'));
  touch('a');
  await clock.advance(120_000);
  expect(parents.length).toBeGreaterThan(3);
  expect(parents.length).toBeLessThan(60);
  expect(publisher.unsavedSinceMs).toBe(0);
  script.create = works;
  await clock.advance(60_000);
  expect(publisher.unsavedSinceMs).toBeNull();
});

test('a call during a run is answered by one more run, which all such callers share', async () => {
  const { parents, script, publisher, touch } = setUp();
  const gate = Promise.withResolvers<CreateOutcome>();
  const works = script.create;
  script.create = () => gate.promise;
  touch('a');
  const first = publisher.publishNow();
  script.create = works;
  touch('b');
  const second = publisher.publishNow();
  const third = publisher.publishNow();
  gate.resolve({ kind: 'unchanged', tornPaths: [] });
  expect(await first).toBeNull();
  expect((await second)?.snapshotId).toBe((await third)?.snapshotId);
  expect(parents).toHaveLength(2);
});

test('changes are unsaved until the commit is answered, not only until they are uploaded', async () => {
  const { clock, script, publisher, touch } = setUp();
  const gate = Promise.withResolvers<SnapshotVerdict['verdict']>();
  script.commit = () => gate.promise;
  await clock.advance(5_000);
  touch('a');
  await clock.advance(30_000);
  expect(publisher.unsavedSinceMs).toBe(5_000);
  gate.resolve({ kind: 'committed', seq: 1 });
  await clock.advance(1);
  expect(publisher.unsavedSinceMs).toBeNull();
});

test('files torn while they were read stay unsaved', async () => {
  const { clock, script, publisher, touch, dirtySet } = setUp();
  script.create = () => Promise.resolve({ kind: 'unchanged', tornPaths: ['hot'] });
  touch('cold');
  await clock.advance(1_000);
  expect(dirtySet.take()).toEqual({ paths: new Set(['hot']), sinceMonotonicMs: 0 });
  await publisher.stop(new DumontError('ABORTED', 'over'));
});

test('a moved head becomes the parent at once, but not for ever', async () => {
  const { parents, script, publisher, touch } = setUp();
  const heads = Array.from({ length: 9 }, () => record(null));
  let asked = 0;
  script.commit = () => {
    asked += 1;
    return Promise.resolve({ kind: 'stale-parent', head: heads[asked] ?? null });
  };
  touch('a');
  await expect(publisher.publishNow()).rejects.toMatchObject({ code: 'STALE_PARENT', retryable: true });
  expect(parents).toEqual([null, ...heads.slice(1, 5).map((head) => head.snapshotId)]);
  await publisher.stop(new DumontError('ABORTED', 'over'));
});

test('after a stop nothing is published, and a call says why', async () => {
  const { clock, parents, publisher, touch } = setUp();
  await publisher.stop(new DumontError('STALE_EPOCH', 'fenced'));
  touch('a');
  await clock.advance(60_000);
  expect(parents).toEqual([]);
  await expect(publisher.publishNow()).rejects.toMatchObject({ code: 'STALE_EPOCH', message: 'fenced' });
  expect(publisher.unsavedSinceMs).toBe(0);
});

test('what an earlier agent may have left unsaved counts until the first snapshot, which says up to when all is safe', async () => {
  const { clock, publisher, saved, script, touch } = setUp(-5_000);
  expect(publisher.unsavedSinceMs).toBe(-5_000);
  script.create = () => Promise.resolve({ kind: 'unchanged', tornPaths: ['a'] });
  await publisher.publishNow();
  expect([publisher.unsavedSinceMs, saved]).toEqual([-5_000, []]);
  script.create = () => Promise.resolve({ kind: 'unchanged', tornPaths: [] });
  touch('a');
  await clock.advance(100);
  const wallMs = clock.nowMs();
  await publisher.publishNow();
  expect([publisher.unsavedSinceMs, saved]).toEqual([null, [wallMs]]);
});

test('a snapshot that lacks only its verdict can be waited for', async () => {
  const { publisher, script, touch } = setUp();
  let answer = (_verdict: { readonly kind: 'committed'; readonly seq: number }) => {};
  const asked = new Promise<void>((resolve) => {
    script.commit = () => {
      resolve();
      return new Promise((settle) => {
        answer = settle;
      });
    };
  });
  await publisher.verdictHeard();
  touch('a');
  const published = publisher.publishNow();
  await asked;
  let isHeard = false;
  const heard = publisher.verdictHeard().then(() => {
    isHeard = true;
  });
  await Promise.resolve();
  expect(isHeard).toBe(false);
  answer({ kind: 'committed', seq: 1 });
  await heard;
  await published;
});
