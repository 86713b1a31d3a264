import { copyFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { CutWindow } from '@dumont/agent/snapshot/cdc/cut-window.ts';
import { cutChunks } from '@dumont/agent/snapshot/chunker.ts';
import { chunksOf, memorySource, newChunks, seededBytes, totalBytes } from '../../../world/chunking.ts';
import { created, openEngine } from '../../../world/engine.ts';

const MIB = 1_048_576;

test('an insertion, a deletion, a longer header and an append to a 64 MiB file cost a chunk or two each', async () => {
  const file = seededBytes(64 * MIB, 1);
  const before = chunksOf(file);
  const middle = 32 * MIB + 4_321;
  const edits = {
    insertion: Buffer.concat([file.subarray(0, middle), Buffer.from('inserted'), file.subarray(middle)]),
    deletion: Buffer.concat([file.subarray(0, middle), file.subarray(middle + 99)]),
    header: Buffer.concat([Buffer.alloc(30, 'h'), file]),
    append: Buffer.concat([file, Buffer.from('one more line\n')]),
  };
  for (const edited of Object.values(edits)) {
    const fresh = newChunks(before, chunksOf(edited));
    expect(fresh.length).toBeGreaterThanOrEqual(1);
    expect(fresh.length).toBeLessThanOrEqual(2);
  }
});

test('200 insertions in a 128 MiB file cost at most 1.4 times the chunks they fall into', async () => {
  const file = seededBytes(128 * MIB, 2);
  const before = chunksOf(file);
  const random = seededRandom(3);
  const places = Array.from({ length: 200 }, () => Math.floor(random.next() * file.length)).toSorted((a, b) => a - b);
  const edited = Buffer.concat(
    [0, ...places].flatMap((place, index) => [
      seededBytes(index === 0 ? 0 : 137, index),
      file.subarray(place, places[index] ?? file.length),
    ]),
  );
  expect(edited.length).toBe(file.length + 200 * 137);
  const hit = before.filter(({ offset, length }) => places.some((place) => place >= offset && place < offset + length));
  const idealBytes = totalBytes(hit);
  expect(totalBytes(newChunks(before, chunksOf(edited))) / idealBytes).toBeLessThan(1.4);
});

test('a copy costs nothing, an edited copy only its edit, and both come back', async () => {
  await using engine = await openEngine();
  const file = seededBytes(16 * MIB, 4);
  await writeFile(join(engine.root, 'a.bin'), file);
  const first = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  await copyFile(join(engine.root, 'a.bin'), join(engine.root, 'b.bin'));
  const second = created(await engine.snapshotter.create({ epoch: 1, parent: first }));
  expect(second.newBytes).toBe(0);
  const edited = Buffer.concat([file.subarray(0, 5 * MIB), Buffer.from('!'), file.subarray(5 * MIB)]);
  await writeFile(join(engine.root, 'b.bin'), edited);
  const third = created(await engine.snapshotter.create({ epoch: 1, parent: second }));
  expect(third.newBytes).toBe(totalBytes(newChunks(chunksOf(file), chunksOf(edited))));
  expect(third.newBytes).toBeLessThan(3 * MIB);
  await engine.restore(third);
  expect(await engine.restore(third)).toMatchObject({ bytesWritten: 0 });
});

test('a source that ends early yields only whole chunks', async () => {
  const whole = seededBytes(3 * MIB, 5);
  const window = new CutWindow();
  const source = { ...memorySource(whole), sizeBytes: 5 * MIB };
  const segments = [{ offset: 0, length: 5 * MIB, cut: 'content' as const }];
  const yielded: Buffer[] = [];
  for (const { raw } of cutChunks(source, segments, window)) yielded.push(Buffer.from(raw));
  const bytes = Buffer.concat(yielded);
  expect(bytes.length).toBeLessThanOrEqual(whole.length);
  expect(bytes.equals(whole.subarray(0, bytes.length))).toBe(true);
});
