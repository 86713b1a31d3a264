import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { planJobs, type PlannedJob } from '@dumont/agent/restore/plan.ts';
import { verifySnapshot } from '@dumont/agent/restore/verify.ts';
import type { ChunkRow, Entry, Manifest } from '@dumont/shared/format/manifest.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { weights } from '../../../world/corpora.ts';
import { openEngine } from '../../../world/engine.ts';
import { craftSnapshot, METADATA } from './crafted.ts';

const MIB = 1_048_576;
const ALL = { share: 1, seed: 0 };

/** The first checkpoint's chunks, then the second's, which differ from them in few bytes. */
const before = Array.from({ length: 12 }, (_, n) => Buffer.from(weights(MIB, 'bf16').map((byte) => (byte + n) & 255)));
const after = before.map((raw) => Buffer.from(raw.map((byte, at) => (at % 997 === 0 ? byte ^ 1 : byte))));

const chunks = [...before.map((raw) => ({ raw, pack: 0 })), ...after.map((raw, row) => ({ raw, pack: 1, base: row }))];
const file = (path: string, rows: number[]): Entry => {
  return { type: 'file', path, ...METADATA, size: rows.length * MIB, chunks: rows };
};
const secondRows = after.map((_, row) => before.length + row);

test('a checkpoint stored as differences comes back, with and without its base', async () => {
  await using engine = await openEngine();
  const both = [
    file(
      'one',
      before.map((_, row) => row),
    ),
    file('two', secondRows),
  ];
  for (const entries of [both, both.slice(1)]) {
    const target = join(engine.target, String(entries.length));
    const ref = await craftSnapshot(engine.store, chunks, entries);
    await engine.restore(ref, { target });
    expect((await readFile(join(target, 'two'))).equals(Buffer.concat(after))).toBe(true);
    const found = await verifySnapshot({ store: engine.store, snapshot: ref, clock: systemClock, readData: ALL });
    expect(found).toMatchObject({ problems: [], chunkCount: chunks.length });
  }
});

const id = (n: number) => String(n).padStart(64, '0');
const use = [{ turn: { stage: 'large', rank: 0 } as const }];

function plan(rows: readonly ChunkRow[], needed: readonly number[]): readonly PlannedJob<(typeof use)[number]>[] {
  const packs = ['a', 'b'];
  const manifest = { packs, chunks: rows } as unknown as Manifest;
  const place = (row: number) => ({ source: packs[rows[row]?.[1] ?? 0] ?? '', offset: rows[row]?.[2] ?? 0 });
  return planJobs(manifest, new Map(needed.map((row) => [row, use])), place);
}

/** Chunks of 1 MiB in pack `a`, and a difference to each in pack `b`. */
const rows = [
  ...before.map((_, n): ChunkRow => [id(n), 0, n * MIB, MIB, MIB, 'planes']),
  ...after.map((_, n): ChunkRow => [id(100 + n), 1, n * 1_000, 1_000, MIB, 'delta', n]),
];

test('a difference lies right behind its base in one job, which fetches neighbours of both packs together', () => {
  const jobs = plan(rows, [...rows.keys()]);
  expect(jobs.map((job) => job.ranges.length)).toEqual([2, 2]);
  expect(jobs.flatMap((job) => job.chunks.map((chunk) => chunk.row))).toEqual(
    before.flatMap((_, n) => [n, before.length + n]),
  );
  for (const { row, uses } of jobs.flatMap((job) => job.chunks)) expect(uses, String(row)).toEqual(use);
});

test('a base that no file needs is fetched for the difference, and written nowhere', () => {
  const [job, another] = plan(rows, [before.length + 3]);
  expect(another).toBeUndefined();
  expect(job?.ranges.map(({ source, offset, length }) => [source, offset, length])).toEqual([
    ['a', 3 * MIB, MIB],
    ['b', 3_000, 1_000],
  ]);
  expect(job?.chunks.map(({ row, uses }) => [row, uses.length])).toEqual([
    [3, 0],
    [before.length + 3, 1],
  ]);
});

test('a base with more differences than a job takes is fetched for each job, and written once', () => {
  const many = Array.from({ length: 40 }, (_, n): ChunkRow => [id(200 + n), 1, n * MIB, MIB, MIB, 'delta', 0]);
  const jobs = plan(
    [[id(0), 0, 0, MIB, MIB, 'planes'], ...many],
    Array.from({ length: 41 }, (_, row) => row),
  );
  expect(jobs.length).toBeGreaterThan(3);
  for (const { chunks, bytes } of jobs) {
    expect(chunks[0]?.row).toBe(0);
    expect(bytes).toBeLessThanOrEqual(16 * MIB);
  }
  expect(jobs.map(({ chunks }) => chunks[0]?.uses.length)).toEqual([1, ...jobs.slice(1).map(() => 0)]);
  expect(jobs.flatMap(({ chunks }) => chunks.slice(1))).toHaveLength(40);
});

test('what cannot be a base, and a frame longer than its chunk allows, are refused before anything is fetched', () => {
  const base: ChunkRow = [id(0), 0, 0, MIB, MIB, 'planes'];
  const hostile: ChunkRow[] = [
    [id(1), 0, 0, 10, MIB, 'delta'],
    [id(1), 0, 0, 10, MIB, 'delta', 7],
    [id(1), 0, 0, 10, MIB, 'delta', 1],
    [id(1), 0, 0, 10, 5, 'delta', 0],
    [id(1), 0, 0, 100 * MIB, 5, 'lz4'],
  ];
  for (const row of hostile) expect(() => plan([base, row], [1])).toThrow(expect.objectContaining({ code: 'CORRUPT' }));
});

test('no gaps are fetched where they would fill the memory', () => {
  const far = Array.from({ length: 2_000 }, (_, n): ChunkRow => [id(300 + n), 1, n * 60_000, 40, 100, 'delta', n]);
  const bases = far.map((_, n): ChunkRow => [id(5_000 + n), 0, n * 40, 40, 100, 'lz4']);
  const needed = far.map((_, n) => bases.length + n);
  for (const { bytes } of plan([...bases, ...far], needed)) expect(bytes).toBeLessThanOrEqual(16 * MIB);
});
