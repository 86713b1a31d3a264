import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CutWindow, MAX_CHUNK_BYTES, MIN_CHUNK_BYTES } from '@dumont/agent/snapshot/cdc/cut-window.ts';
import { chunksOf, seededBytes } from '../../../../world/chunking.ts';
import { referenceCuts } from '../../../../world/reference-cut.ts';

const MIB = 1_048_576;

/** A stretch of a file: noise, one short unit over and over, or noise of few letters. */
const anyStretch = fc.oneof(
  fc.tuple(fc.integer({ min: 1, max: 2 * MIB }), fc.nat()).map(([size, seed]) => seededBytes(size, seed)),
  fc
    .tuple(fc.integer({ min: 1, max: 2 * MIB }), fc.uint8Array({ minLength: 1, maxLength: 70 }))
    .map(([size, unit]) => Buffer.alloc(size, unit)),
  fc.tuple(fc.integer({ min: 1, max: 2 * MIB }), fc.nat()).map(([size, seed]) => {
    const bytes = seededBytes(size, seed);
    for (let at = 0; at < size; at += 1) bytes[at] = 'etaoin \n'.charCodeAt((bytes[at] ?? 0) & 7);
    return bytes;
  }),
);

test('the built module cuts as the plain rule says, however the reads are answered', async () => {
  const anyBytes = fc.array(anyStretch, { minLength: 1, maxLength: 5 }).map((parts) => Buffer.concat(parts));
  const anyReadSizes = fc.array(fc.integer({ min: 1_000, max: 2 * MIB }), { maxLength: 4 });
  await fc.assert(
    fc.asyncProperty(anyBytes, anyReadSizes, async (bytes, readSizes) => {
      const ends = chunksOf(bytes, readSizes).map(({ offset, length }) => offset + length);
      expect(ends).toEqual(referenceCuts(bytes));
    }),
    { numRuns: 25 },
  );
});

test('a scan that goes on where it stopped finds what one scan finds, at any address', () => {
  const window = new CutWindow();
  seededBytes(window.bytes.length, 1).copy(window.bytes);
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 4 * MIB }),
      fc.array(fc.integer({ min: 1, max: MIB }), { minLength: 1, maxLength: 9 }),
      (start, steps) => {
        const end = start + MAX_CHUNK_BYTES;
        let from = start;
        let found: number | null = null;
        for (let turn = 0; found === null && from < end; turn += 1) {
          const to = Math.min(end, from + (steps[turn % steps.length] ?? MIB));
          found = window.findCut(start, from, to);
          from = to;
        }
        expect(found).toBe(window.findCut(start, start, end));
      },
    ),
  );
});

test('runs of any one byte have no cut, so all their chunks are alike', () => {
  const window = new CutWindow();
  for (let byte = 0; byte < 256; byte += 1) {
    window.bytes.fill(byte, 0, MAX_CHUNK_BYTES);
    expect(window.findCut(0, 0, MAX_CHUNK_BYTES)).toBeNull();
  }
});

test('zeros and other periodic data make few distinct chunks', async () => {
  const zeros = chunksOf(Buffer.alloc(40 * MIB));
  expect(zeros.map(({ length }) => length)).toEqual(Array.from({ length: 10 }, () => 4 * MIB));
  expect(new Set(zeros.map(({ id }) => id)).size).toBe(1);
  for (const unit of ['ab', 'abcd', '0.0078125 ', 'x'.repeat(64)]) {
    const chunks = chunksOf(Buffer.alloc(40 * MIB, unit));
    expect(new Set(chunks.map(({ id }) => id)).size).toBeLessThanOrEqual(unit.length + 1);
  }
});

test('lengths stay within their bounds and gather around 1 MiB', async () => {
  const lengths = chunksOf(seededBytes(128 * MIB, 7)).map(({ length }) => length);
  const inner = lengths.slice(0, -1).toSorted((a, b) => a - b);
  expect(inner[0]).toBeGreaterThanOrEqual(MIN_CHUNK_BYTES);
  expect(inner.at(-1)).toBeLessThanOrEqual(MAX_CHUNK_BYTES);
  expect((128 * MIB) / lengths.length / MIB).toBeCloseTo(1, 0.6);
  expect(inner.filter((length) => length > MIB / 2 && length < 2 * MIB).length / inner.length).toBeGreaterThan(0.85);
});

test('a file of 256 KiB or less is one chunk, an empty one has none', async () => {
  expect(chunksOf(seededBytes(MIN_CHUNK_BYTES, 3)).length).toBe(1);
  expect(chunksOf(Buffer.alloc(0))).toEqual([]);
});
