import { statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CutWindow } from '@dumont/agent/snapshot/cdc/cut-window.ts';
import { findHoles, segmentsBetween, type Hole } from '@dumont/agent/snapshot/holes.ts';
import { seededBytes } from '../../../world/chunking.ts';
import { makeTempFolder } from '../../../world/temp-folder.ts';

const MIB = 1_048_576;

async function writeSparse(path: string, sizeBytes: number, data: readonly number[]): Promise<void> {
  await using file = await open(path, 'w');
  await file.truncate(sizeBytes);
  for (const offset of data) await file.write(seededBytes(4_096, offset), 0, 4_096, offset);
}

function holesOf(path: string): readonly Hole[] {
  const state = statSync(path, { bigint: true });
  return findHoles(path, { state, sizeBytes: Number(state.size), scratch: new CutWindow().bytes });
}

test('whole stretches of 4 MiB without data are holes, the last one may be shorter', async () => {
  await using folder = await makeTempFolder();
  const path = join(folder.path, 'f');
  await writeSparse(path, 33 * MIB + 5, [0, 9 * MIB, 30 * MIB]);
  expect(holesOf(path)).toEqual([
    [4 * MIB, 4 * MIB],
    [12 * MIB, 16 * MIB],
    [32 * MIB, MIB + 5],
  ]);
  await writeSparse(path, 9 * MIB, []);
  expect(holesOf(path)).toEqual([[0, 9 * MIB]]);
});

test('a single byte at the end of a stretch makes it data', async () => {
  await using folder = await makeTempFolder();
  const path = join(folder.path, 'f');
  await writeSparse(path, 12 * MIB, []);
  await using file = await open(path, 'r+');
  await file.write(Buffer.from([1]), 0, 1, 8 * MIB - 1);
  expect(holesOf(path)).toEqual([
    [0, 4 * MIB],
    [8 * MIB, 4 * MIB],
  ]);
});

test('a path that has become another file has no holes', async () => {
  await using folder = await makeTempFolder();
  const [path, other] = [join(folder.path, 'f'), join(folder.path, 'g')];
  await writeSparse(path, 8 * MIB, []);
  await writeSparse(other, 8 * MIB, []);
  const state = statSync(other, { bigint: true });
  expect(findHoles(path, { state, sizeBytes: 8 * MIB, scratch: new CutWindow().bytes })).toEqual([]);
  expect(findHoles(join(folder.path, 'none'), { state, sizeBytes: 8 * MIB, scratch: new CutWindow().bytes })).toEqual(
    [],
  );
});

test('segments and holes together are the whole file', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(9), fc.integer({ min: 1, max: 9 }))), fc.nat(9), (gaps, rest) => {
      let at = 0;
      const holes = gaps.map(([gap, length]): Hole => {
        const offset = at + gap;
        at = offset + length;
        return [offset, length];
      });
      const sizeBytes = at + rest;
      const parts = [
        ...[...segmentsBetween(holes, sizeBytes)].map(({ offset, length }) => [offset, length] as const),
        ...holes,
      ].toSorted((a, b) => a[0] - b[0]);
      let end = 0;
      for (const [offset, length] of parts) {
        expect(offset).toBe(end);
        expect(length).toBeGreaterThan(0);
        end += length;
      }
      expect(end).toBe(sizeBytes);
    }),
  );
});
