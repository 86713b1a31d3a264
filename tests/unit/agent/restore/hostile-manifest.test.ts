import { readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Entry, Manifest } from '@dumont/shared/format/manifest.ts';
import { readManifest } from '@dumont/agent/snapshot/manifest-store.ts';
import { created, openEngine } from '../../../world/engine.ts';
import { storeManifest, type StoredParts } from '../../../world/store-manifest.ts';

const metadata = { mode: 0o644, uid: 0, gid: 0, mtimeNs: '0' };
const file = (path: string, changes = {}): Entry => ({
  type: 'file',
  path,
  ...metadata,
  size: 7,
  chunks: [0],
  ...changes,
});
const dir = (path: string): Entry => ({ type: 'dir', path, ...metadata });
const symlink = (path: string, target: string): Entry => ({ type: 'symlink', path, ...metadata, target });

const HOSTILE: readonly (readonly [string, (good: Manifest) => unknown])[] = [
  ['an absolute path', (good) => ({ ...good, entries: [file('/tmp/dumont-evil')] })],
  ['a path that climbs out', (good) => ({ ...good, entries: [dir('..'), file('../evil')] })],
  ['a path that climbs out in the middle', (good) => ({ ...good, entries: [dir('a'), file('a/../../evil')] })],
  ['an empty name', (good) => ({ ...good, entries: [dir('a'), file('a//b')] })],
  ['a NUL in a path', (good) => ({ ...good, entries: [file('a\0b')] })],
  ['a lone surrogate in a path', (good) => ({ ...good, entries: [file('a\uD800')] })],
  ['a name longer than a disk takes', (good) => ({ ...good, entries: [file('é'.repeat(200))] })],
  ['a file below a symlink', (good) => ({ ...good, entries: [symlink('a', '/tmp'), file('a/evil')] })],
  ['a file below a file', (good) => ({ ...good, entries: [file('a'), file('a/evil')] })],
  ['a file whose folder is not listed', (good) => ({ ...good, entries: [file('a/evil')] })],
  ['a folder listed after what it holds', (good) => ({ ...good, entries: [file('a/evil'), dir('a')] })],
  ['a path listed twice', (good) => ({ ...good, entries: [file('a'), symlink('a', '/tmp')] })],
  [
    'a hard link out of the folder',
    (good) => ({ ...good, entries: [{ type: 'hardlink', path: 'a', target: '/etc/passwd' }] }),
  ],
  [
    'a hard link to a symlink',
    (good) => ({ ...good, entries: [symlink('s', '/x'), { type: 'hardlink', path: 't', target: 's' }] }),
  ],
  ['a symlink with a NUL', (good) => ({ ...good, entries: [symlink('a', 'b\0c')] })],
  ['an absurd size', (good) => ({ ...good, entries: [file('a', { size: Number.MAX_SAFE_INTEGER })] })],
  ['a size that is no number', (good) => ({ ...good, entries: [file('a', { size: 1e300 })] })],
  ['a chunk that is not listed', (good) => ({ ...good, entries: [file('a', { chunks: [99] })] })],
  ['a pack that is not listed', (good) => ({ ...good, packs: [] })],
  ['a pack that is a path', (good) => ({ ...good, packs: ['../../../etc/passwd'] })],
  ['a chunk larger than any frame', (good) => ({ ...good, chunks: [['0'.repeat(64), 0, 0, 9, 1e9, 'lz4']] })],
  ['a chunk listed twice', (good) => ({ ...good, chunks: [good.chunks[0], good.chunks[0]] })],
  ['a mode with file type bits', (good) => ({ ...good, entries: [file('a', { mode: 0o120777 })] })],
  ['a time beyond any clock', (good) => ({ ...good, entries: [file('a', { mtimeNs: '9'.repeat(40) })] })],
  ['a prototype for an entry', (good) => ({ ...good, entries: [JSON.parse('{"__proto__": {"type": "dir"}}')] })],
  ['no object at all', () => 7],
];

test.each(HOSTILE)('a manifest with %s is refused before anything is written', async (_, change) => {
  await using engine = await openEngine();
  await writeFile(join(engine.root, 'f'), 'content');
  const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  const { manifest } = await readManifest(engine.store, record);
  const manifestHash = await storeManifest(engine.store, record.manifestKey, change(manifest));
  const restored = engine.restore({ ...record, manifestHash });
  await expect(restored).rejects.toMatchObject({ code: 'CORRUPT' });
  expect(await stat(engine.target).catch(() => null)).toBeNull();
  expect((await readdir(join(engine.root, '..'))).toSorted()).toEqual(['store', 'ws']);
});

const SEGMENTS: readonly (readonly [string, (parts: StoredParts) => StoredParts])[] = [
  ['another number of entries', (parts) => withSegment(parts, { entries: 2 })],
  ['another first path', (parts) => withSegment(parts, { first: 'e' })],
  ['a chunk that is not listed', (parts) => withSegment(parts, { chunks: [7] })],
  ['no chunks', (parts) => withSegment(parts, { chunks: [] })],
  ['false sums', (parts) => ({ ...parts, root: { ...parts.root, counts: { entries: 1, files: 1, bytes: 8 } } })],
  ['the same segment twice', (parts) => repeated(parts)],
  ['a segment that is no object', (parts) => ({ ...parts, segment: [] })],
  ['a segment without entries', (parts) => ({ ...parts, segment: { packs: [], chunks: [], entries: [] } })],
  ['a base that is a difference itself', (parts) => withRows(parts, ['delta', 1], ['delta', 0])],
  ['a base that is not listed', (parts) => withRows(parts, ['delta', 9], ['lz4'])],
  ['a difference without a base', (parts) => withRows(parts, ['delta'], ['lz4'])],
  ['a base for what is no difference', (parts) => withRows(parts, ['lz4', 1], ['lz4'])],
  ['a hole outside of its file', (parts) => withFile(parts, { size: 9, holes: [[8, 2]] })],
  [
    'holes that touch each other',
    (parts) =>
      withFile(parts, {
        size: 9,
        holes: [
          [0, 1],
          [1, 1],
        ],
      }),
  ],
  ['a hole that is not in the size', (parts) => withFile(parts, { holes: [[0, 4]] })],
  ['an attribute that is not base64', (parts) => withFile(parts, { xattrs: [['user.a', '%']] })],
  ['an attribute without a name', (parts) => withFile(parts, { xattrs: [['', '']] })],
];

function withSegment({ root, segment }: StoredParts, change: object): StoredParts {
  const [ref] = root['segments'] as object[];
  return { root: { ...root, segments: [{ ...ref, ...change }] }, segment };
}

function repeated({ root, segment }: StoredParts): StoredParts {
  const [ref] = root['segments'] as object[];
  return { root: { ...root, segments: [ref, ref], counts: { entries: 2, files: 2, bytes: 14 } }, segment };
}

function withRows({ root, segment }: StoredParts, ...codecs: readonly unknown[][]): StoredParts {
  const { chunks, ...rest } = segment as { chunks: unknown[][] };
  const [row = []] = chunks;
  const rows = codecs.map((codec, index) => [index === 0 ? row[0] : '0'.repeat(64)].concat(row.slice(1, 5), codec));
  return { root, segment: { ...rest, chunks: rows } };
}

function withFile({ root, segment }: StoredParts, change: object): StoredParts {
  const { entries, ...rest } = segment as { entries: object[] };
  const changed = { ...entries[0], ...change } as { size: number };
  const counts = { entries: 1, files: 1, bytes: changed.size };
  return { root: { ...root, counts }, segment: { ...rest, entries: [changed] } };
}

test.each(SEGMENTS)('a manifest with %s is refused before anything is written', async (_, change) => {
  await using engine = await openEngine();
  await writeFile(join(engine.root, 'f'), 'content');
  const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  const { manifest } = await readManifest(engine.store, record);
  const good = await storeManifest(engine.store, record.manifestKey, manifest);
  expect((await readManifest(engine.store, { ...record, manifestHash: good })).manifest.entries).toHaveLength(1);
  const manifestHash = await storeManifest(engine.store, record.manifestKey, manifest, change);
  await expect(engine.restore({ ...record, manifestHash })).rejects.toMatchObject({ code: 'CORRUPT' });
  expect(await stat(engine.target).catch(() => null)).toBeNull();
});

test('a manifest of a later format is refused with a hint, and one of another snapshot as corrupt', async () => {
  await using engine = await openEngine();
  await writeFile(join(engine.root, 'f'), 'content');
  const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  const { manifest } = await readManifest(engine.store, record);
  const put = async (value: unknown) => {
    const manifestHash = await storeManifest(engine.store, record.manifestKey, value);
    return { ...record, manifestHash };
  };
  await expect(engine.restore(await put({ ...manifest, formatVersion: 2 }))).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    hint: expect.stringContaining('newer') as string,
  });
  const other = await put({ ...manifest, snapshotId: 'sn_00000000000000000000' });
  await expect(engine.restore(other)).rejects.toMatchObject({ code: 'CORRUPT' });
});

test('a snapshot that needs more room than the disk has is refused before anything is written', async () => {
  await using engine = await openEngine();
  await writeFile(join(engine.root, 'f'), Buffer.alloc(4 * 1_048_576));
  const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  const { manifest } = await readManifest(engine.store, record);
  const rawLength = 4 * 1_048_576;
  const [id] = manifest.chunks[0] ?? [];
  const refs = Array.from({ length: 1_000_000 }, () => 0);
  const entries = ['a', 'b', 'c'].map((path) => file(path, { size: rawLength * refs.length, chunks: refs }));
  const chunks = [[id, 0, 0, 100, rawLength, 'lz4']];
  const value = { ...manifest, chunks, entries };
  const manifestHash = await storeManifest(engine.store, record.manifestKey, value);
  await expect(engine.restore({ ...record, manifestHash })).rejects.toMatchObject({ code: 'LIMIT' });
  expect(await readdir(engine.target)).toEqual([]);
});
