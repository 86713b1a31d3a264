import { mkdir, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { flushWithin, planBatches, type UnsavedFile } from '@dumont/agent/lease/last-flush.ts';
import type { SnapshotRecord } from '@dumont/shared/protocol/snapshot-record.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { lastWordsSchema } from '@dumont/shared/protocol/notice.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { makeTempFolder } from '../../../world/temp-folder.ts';

const MIB = 1_048_576;
const log = createLogger('test', 'silent');

const files = fc.array(fc.record({ sizeBytes: fc.nat({ max: 4_000 * MIB }), mtimeMs: fc.nat({ max: 1_000 }) }), {
  maxLength: 200,
});

test('every file is in one batch, each in its class newest first, and there are few batches', () => {
  fc.assert(
    fc.property(files, (drawn) => {
      const unsaved: UnsavedFile[] = drawn.map((file, index) => ({ ...file, path: `f${index}` }));
      const batches = planBatches(unsaved);
      expect(
        batches
          .flat()
          .map(({ path }) => path)
          .sort(),
      ).toEqual(unsaved.map(({ path }) => path).sort());
      const large = unsaved.filter(({ sizeBytes }) => sizeBytes > 16 * MIB).length;
      expect(batches.length).toBeLessThanOrEqual(large + 3);
      const small = batches.flat().filter(({ sizeBytes }) => sizeBytes <= 64 * 1_024);
      expect(batches.flat().slice(0, small.length)).toEqual(small.toSorted((a, b) => b.mtimeMs - a.mtimeMs));
    }),
  );
});

/** What a publisher has to save; each commit takes so long, and what runs out of time is unsaved again. */
function publisherOf(paths: readonly string[], commitMs: (only: readonly string[]) => number) {
  const unsaved = new Set(paths);
  const committed: string[][] = [];
  const publish = async (only: readonly string[], signal: AbortSignal): Promise<SnapshotRecord | null> => {
    await systemClock.sleep(commitMs(only), signal);
    for (const path of only) unsaved.delete(path);
    committed.push([...only]);
    return null;
  };
  let run = new AbortController();
  return {
    committed,
    yield: async (afterMs: number) => {
      const { abort } = { abort: run.abort.bind(run) };
      systemClock.after(afterMs, abort);
    },
    unsavedPaths: [unsaved],
    publishOnly: (only: ReadonlySet<string>, signal: AbortSignal) => publish([...only], signal),
    publishNow: () => {
      run = new AbortController();
      return publish([...unsaved], run.signal);
    },
  };
}

async function folderOf(sizes: Readonly<Record<string, number>>) {
  const folder = await makeTempFolder();
  let seconds = 1_700_000_000;
  for (const [path, size] of Object.entries(sizes)) {
    await mkdir(dirname(join(folder.path, path)), { recursive: true });
    await writeFile(join(folder.path, path), Buffer.alloc(size));
    seconds += 1;
    await utimes(join(folder.path, path), seconds, seconds);
  }
  return folder;
}

test('with time for everything, everything is safe', async () => {
  await using folder = await folderOf({ 'a/old': 10, 'a/new': 20 });
  const publisher = publisherOf(['a/old', 'a/new', 'a', 'gone'], () => 1);
  const words = await flushWithin({ root: folder.path, publisher, withinMs: 5_000, clock: systemClock, log });
  expect(lastWordsSchema.parse({ ...words, standbyBehindBytes: null })).toMatchObject(words);
  expect(words).toMatchObject({ safeFiles: 3, safeBytes: 30, unsafeFiles: 0, unsafeBytes: 0, unsafePaths: [] });
  expect(publisher.committed).toEqual([['gone', 'a/new', 'a/old'], ['a']]);
});

test('when the time is up, what was committed is safe and exactly the rest is named', async () => {
  await using folder = await folderOf({ small: 10, huge: 20 * MIB, larger: 40 * MIB });
  const publisher = publisherOf(['small', 'huge', 'larger'], (only) => (only.includes('small') ? 1 : 60_000));
  const words = await flushWithin({ root: folder.path, publisher, withinMs: 400, clock: systemClock, log });
  expect(words).toMatchObject({ safeFiles: 1, safeBytes: 10, unsafeFiles: 2, unsafeBytes: 60 * MIB });
  expect(words.unsafePaths).toEqual(['larger', 'huge']);
  expect(words.tookMs).toBeGreaterThanOrEqual(390);
});
