import { readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { getAttributeSync, listAttributesSync, setAttributeSync } from '@napi-rs/xattr';
import { expect, test } from 'vitest';
import { piecesOf } from '@dumont/agent/restore/plan.ts';
import type { Entry, FileEntry, Manifest } from '@dumont/shared/format/manifest.ts';
import { openEngine } from '../../../world/engine.ts';
import { craftSnapshot, METADATA } from './crafted.ts';

const MIB = 1_048_576;
const a = Buffer.alloc(70_000, 'a');
const b = Buffer.alloc(50_000, 'b');

function sparse(changes: Partial<FileEntry> = {}): FileEntry {
  const holes: [number, number][] = [
    [0, MIB],
    [MIB + 30_000, MIB],
    [2 * MIB + 120_000, 20_000 * MIB],
  ];
  return {
    type: 'file',
    path: 'sparse',
    ...METADATA,
    size: 20_002 * MIB + 120_000,
    chunks: [0, 1],
    holes,
    ...changes,
  };
}

test('a sparse file of 20 GB comes back with its holes, data spanning them, in a moment', async () => {
  await using engine = await openEngine();
  const chunks = [
    { raw: a, pack: 0 },
    { raw: b, pack: 0 },
  ];
  const outcome = await engine.restore(await craftSnapshot(engine.store, chunks, [sparse()]));
  expect(outcome.bytesWritten).toBe(a.length + b.length);
  const { size, blocks } = await stat(join(engine.target, 'sparse'));
  expect(size).toBe(20_002 * MIB + 120_000);
  expect(blocks * 512).toBeLessThan(MIB);
  await truncate(join(engine.target, 'sparse'), 3 * MIB);
  const content = Buffer.alloc(3 * MIB);
  a.copy(content, MIB, 0, 30_000);
  a.copy(content, 2 * MIB + 30_000, 30_000);
  b.copy(content, 2 * MIB + 70_000);
  expect((await readFile(join(engine.target, 'sparse'))).equals(content)).toBe(true);
});

test('a file on disk is kept only when its holes read as zeros', async () => {
  await using engine = await openEngine();
  const holes: [number, number][] = [[a.length, MIB]];
  const entry = sparse({ size: a.length + MIB, chunks: [0], holes });
  const ref = await craftSnapshot(engine.store, [{ raw: a, pack: 0 }], [entry]);
  await engine.restore(ref);
  expect(await engine.restore(ref)).toMatchObject({ keptFileCount: 1, chunksFetched: 0, bytesWritten: 0 });
  const path = join(engine.target, 'sparse');
  const dirty = await readFile(path);
  dirty[a.length + 77_777] = 1;
  await writeFile(path, dirty);
  expect(await engine.restore(ref)).toMatchObject({ keptFileCount: 0, chunksFetched: 0, bytesWritten: a.length });
  dirty[a.length + 77_777] = 0;
  expect((await readFile(path)).equals(dirty)).toBe(true);
});

test('chunks lie end to end around holes, and are cut where one begins', () => {
  const manifest = { chunks: [a, b].map((raw) => ['', 0, 0, 0, raw.length, 'lz4']) } as unknown as Manifest;
  const pieces = [...piecesOf(sparse(), manifest)];
  expect(pieces).toEqual([
    { index: 0, row: 0, from: 0, offset: MIB, length: 30_000 },
    { index: 0, row: 0, from: 30_000, offset: 2 * MIB + 30_000, length: 40_000 },
    { index: 1, row: 1, from: 0, offset: 2 * MIB + 70_000, length: 50_000 },
  ]);
});

test('extended attributes come back, surplus ones of ours go, and a change of them alone is corrected', async () => {
  await using engine = await openEngine();
  const value = Buffer.from([0, 1, 2, 255]);
  const xattrs: [string, string][] = [['user.color', value.toString('base64')]];
  const entries: Entry[] = [
    { type: 'dir', path: 'd', ...METADATA, mode: 0o755, xattrs },
    sparse({ path: 'd/f', size: a.length, chunks: [0], holes: undefined, xattrs, mode: 0o400 }),
  ];
  const ref = await craftSnapshot(engine.store, [{ raw: a, pack: 0 }], entries);
  expect((await engine.restore(ref)).attributeFlaws.count).toBe(0);
  const path = join(engine.target, 'd/f');
  expect(getAttributeSync(path, 'user.color')).toEqual(value);
  expect(getAttributeSync(join(engine.target, 'd'), 'user.color')).toEqual(value);
  setAttributeSync(path, 'user.color', Buffer.from('other'));
  setAttributeSync(path, 'user.more', Buffer.from('x'));
  expect(await engine.restore(ref)).toMatchObject({ keptFileCount: 1, bytesWritten: 0 });
  expect(listAttributesSync(path)).toEqual(['user.color']);
  expect(getAttributeSync(path, 'user.color')).toEqual(value);
  expect((await stat(path)).mode & 0o777).toBe(0o400);
});

test('an attribute that the system refuses is reported, and everything else is restored', async () => {
  await using engine = await openEngine();
  const entry = sparse({
    size: a.length,
    chunks: [0],
    holes: undefined,
    xattrs: [
      ['nonsense.name', ''],
      ['user.ok', ''],
    ],
  });
  const outcome = await engine.restore(await craftSnapshot(engine.store, [{ raw: a, pack: 0 }], [entry]));
  expect(outcome.attributeFlaws).toEqual({ count: 1, listed: [expect.stringContaining('sparse: nonsense.name: ')] });
  expect(listAttributesSync(join(engine.target, 'sparse'))).toEqual(['user.ok']);
});
