import { join } from 'node:path';
import { readFile, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { verifySnapshot } from '@dumont/agent/restore/verify.ts';
import { packKey } from '@dumont/shared/format/layout.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { readManifest } from '@dumont/agent/snapshot/manifest-store.ts';
import { openEngine } from '../../../world/engine.ts';
import { craftSnapshot, METADATA } from './crafted.ts';

const chunks = Array.from({ length: 200 }, (_, n) => ({ raw: Buffer.alloc(5_000, `chunk ${n} `), pack: n % 2 }));

test('a sample reads its share, the same one for the same seed, and finds what is damaged in it', async () => {
  await using engine = await openEngine();
  const rows = chunks.map((_, row) => row);
  const entry = { type: 'file', path: 'f', ...METADATA, size: 200 * 5_000, chunks: rows } as const;
  const ref = await craftSnapshot(engine.store, chunks, [{ ...entry, chunks: rows }]);
  const verify = (readData: { share: number; seed: number } | null) =>
    verifySnapshot({ store: engine.store, snapshot: ref, clock: systemClock, readData });
  expect(await verify(null)).toMatchObject({ chunksRead: 0, problemCount: 0 });
  expect(await verify({ share: 0.1, seed: 7 })).toMatchObject({ chunksRead: 20, problemCount: 0 });
  expect(await verify({ share: 1, seed: 7 })).toMatchObject({ chunksRead: 200, problemCount: 0 });
  expect(await verify({ share: 0.000_01, seed: 7 })).toMatchObject({ chunksRead: 1 });

  const { manifest } = await readManifest(engine.store, ref);
  const [chunkId, , offset] = must(manifest.chunks[40], 'it was crafted');
  const path = join(engine.storePath, packKey(must(manifest.packs[0], 'it was crafted')));
  const pack = await readFile(path);
  pack[offset + 20] = (pack[offset + 20] ?? 0) ^ 1;
  await writeFile(path, pack);
  const all = await verify({ share: 1, seed: 0 });
  expect(all.problems).toEqual([expect.stringContaining(chunkId)]);
  const found = await Promise.all([1, 2, 3, 4, 5, 6].map((seed) => verify({ share: 0.5, seed })));
  const again = await Promise.all([1, 2, 3, 4, 5, 6].map((seed) => verify({ share: 0.5, seed })));
  expect(again).toEqual(found);
  expect(new Set(found.map(({ problemCount }) => problemCount))).toEqual(new Set([0, 1]));
});

test('a missing pack is one problem of its structure and one of its data, and the other pack is still read', async () => {
  await using engine = await openEngine();
  const rows = chunks.map((_, row) => row);
  const entry = { type: 'file' as const, path: 'f', ...METADATA, size: 200 * 5_000, chunks: rows };
  const ref = await craftSnapshot(engine.store, chunks, [entry]);
  const { manifest } = await readManifest(engine.store, ref);
  const [first = '', second = ''] = manifest.packs;
  const pack = await readFile(join(engine.storePath, packKey(second)));
  pack[pack.length - 30] = (pack[pack.length - 30] ?? 0) ^ 1;
  await writeFile(join(engine.storePath, packKey(second)), pack);
  await engine.store.delete(packKey(first));
  const readData = { share: 1, seed: 0 };
  const found = await verifySnapshot({ store: engine.store, snapshot: ref, clock: systemClock, readData });
  expect(found.problems.filter((text) => text.includes(`${packKey(first)} is missing`))).toHaveLength(2);
  expect(found.problems.filter((text) => text.includes('checksum'))).toHaveLength(1);
  expect(found.problemCount).toBe(3);
});
