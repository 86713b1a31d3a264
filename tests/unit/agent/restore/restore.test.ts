import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { link, mkdir, readdir, readFile, readlink, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { verifySnapshot } from '@dumont/agent/restore/verify.ts';
import { planJobs } from '@dumont/agent/restore/plan.ts';
import { selectEntries } from '@dumont/agent/restore/select.ts';
import { readManifest } from '@dumont/agent/snapshot/manifest-store.ts';
import type { Entry } from '@dumont/shared/format/manifest.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { created, openEngine, type Engine } from '../../../world/engine.ts';
import { differences, makeTree, seeTree } from '../../../world/tree.ts';

const MIB = 1_048_576;
const ALL = { share: 1, seed: 0 };

function random(size: number): Buffer {
  const bytes = Buffer.alloc(size);
  for (let at = 0; at < size; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
  return bytes;
}

async function onlyPack(engine: Engine): Promise<string> {
  const [pack = ''] = await readdir(join(engine.storePath, 'packs'));
  return join(engine.storePath, 'packs', pack);
}

test('a restore killed in the middle leaves only whole files under their names, and a second one completes it', async () => {
  await using engine = await openEngine();
  const files = Array.from({ length: 12 }, (_, n) => [`f${n}`, { kind: 'file', content: random(5 * MIB) }] as const);
  await makeTree(engine.root, Object.fromEntries(files));
  const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  const script = join(import.meta.dirname, 'stalling-restore-child.ts');
  const args = [script, engine.storePath, engine.target, JSON.stringify(record)];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  const closed = once(child, 'close');
  child.kill('SIGKILL');
  await closed;
  for (const name of await readdir(engine.target)) {
    if (!name.startsWith('f')) continue;
    expect((await readFile(join(engine.target, name))).equals(await readFile(join(engine.root, name)))).toBe(true);
  }
  await engine.restore(record);
  expect(differences(await seeTree(engine.root), await seeTree(engine.target))).toEqual([]);
});

test('a flipped byte anywhere in the data of a pack is found and never written', async () => {
  await using engine = await openEngine();
  await makeTree(engine.root, {
    text: { kind: 'file', content: Buffer.alloc(600_000, 'compressible ') },
    binary: { kind: 'file', content: random(50_000) },
  });
  const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  const { manifest } = await readManifest(engine.store, record);
  const pack = await onlyPack(engine);
  const good = await readFile(pack);
  await mkdir(engine.target);
  for (const [id, , offset, storedLength] of manifest.chunks) {
    for (const at of [0, 5, 10, 16, 20, Math.floor(storedLength / 2), storedLength - 9]) {
      const damaged = Buffer.from(good);
      damaged[offset + at] = (damaged[offset + at] ?? 0) ^ 0x10;
      await writeFile(pack, damaged);
      const path = manifest.entries.find(
        (entry) => entry.type === 'file' && manifest.chunks[entry.chunks[0] ?? 0]?.[0] === id,
      )?.path;
      await expect(engine.restore(record, { include: path ?? '' }), `byte ${at}`).rejects.toMatchObject({
        code: 'CORRUPT',
      });
      expect(await readdir(engine.target)).toEqual([]);
      const found = await verifySnapshot({ store: engine.store, snapshot: record, clock: systemClock, readData: ALL });
      expect(found.problems).toHaveLength(1);
    }
  }
  await writeFile(pack, good);
  const sound = await verifySnapshot({ store: engine.store, snapshot: record, clock: systemClock, readData: ALL });
  expect(sound).toMatchObject({ problems: [], problemCount: 0, fileCount: 2 });
});

test('a missing or short pack and a damaged manifest are found by verify and refused by restore', async () => {
  await using engine = await openEngine();
  await writeFile(join(engine.root, 'f'), random(9_000));
  const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  const verify = () => verifySnapshot({ store: engine.store, snapshot: record, clock: systemClock, readData: null });
  const pack = await onlyPack(engine);
  const good = await readFile(pack);
  await writeFile(pack, good.subarray(0, good.length - 1));
  expect((await verify()).problems).toHaveLength(1);
  await engine.store.delete(`packs/${pack.slice(-32)}`);
  expect((await verify()).problems).toEqual([expect.stringContaining('is missing')]);
  await expect(engine.restore(record)).rejects.toMatchObject({ code: 'CORRUPT' });
  const manifest = Buffer.from(await engine.store.get(record.manifestKey));
  manifest[manifest.length - 20] = (manifest[manifest.length - 20] ?? 0) ^ 1;
  await engine.store.put(record.manifestKey, manifest);
  expect((await verify()).problems).toEqual([expect.stringContaining('does not have the hash')]);
  await expect(engine.restore(record, { target: join(engine.target, 'fresh') })).rejects.toMatchObject({
    code: 'CORRUPT',
  });
  expect(await stat(join(engine.target, 'fresh')).catch(() => null)).toBeNull();
});

test('only what matches is restored, with the folders that lead there', async () => {
  await using engine = await openEngine();
  await makeTree(engine.root, {
    'src/a.ts': { kind: 'file', content: Buffer.from('a') },
    'src/deep/b.ts': { kind: 'file', content: Buffer.from('b') },
    'src/deep/c.md': { kind: 'file', content: Buffer.from('c') },
    'zz/link.ts': { kind: 'hardlink', target: 'src/deep/c.md' },
    'other.ts': { kind: 'file', content: Buffer.from('o') },
  });
  const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  const restored = async (include: string) => {
    const target = join(engine.target, String(include.length));
    await engine.restore(record, { include, target });
    return [...(await seeTree(target)).keys()].toSorted();
  };
  expect(await restored('src/deep')).toEqual(['src', 'src/deep', 'src/deep/b.ts', 'src/deep/c.md']);
  expect(await restored('**/*.ts')).toEqual([
    'other.ts',
    'src',
    'src/a.ts',
    'src/deep',
    'src/deep/b.ts',
    'zz',
    'zz/link.ts',
  ]);
  expect(await readFile(join(engine.target, '7/zz/link.ts'), 'utf8')).toBe('c');
  await expect(engine.restore(record, { include: 'src', deleteExtra: true })).rejects.toMatchObject({ code: 'USAGE' });
});

test('what is in the way is refused without deletion, before anything is written', async () => {
  await using engine = await openEngine();
  await makeTree(engine.root, {
    'a/f': { kind: 'file', content: Buffer.from('x') },
    b: { kind: 'file', content: Buffer.from('y') },
  });
  const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  await makeTree(engine.target, { a: { kind: 'file', content: Buffer.from('mine') } });
  await expect(engine.restore(record)).rejects.toMatchObject({ code: 'CONFLICT' });
  expect(await readdir(engine.target)).toEqual(['a']);
  await engine.restore(record, { deleteExtra: true });
  expect(differences(await seeTree(engine.root), await seeTree(engine.target))).toEqual([]);
});

test('nothing is written or deleted through a symlink in the target', async () => {
  await using engine = await openEngine();
  await makeTree(engine.root, {
    'a/f': { kind: 'file', content: Buffer.from('x') },
    g: { kind: 'file', content: Buffer.from('y') },
  });
  const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  const outside = join(engine.target, '../outside');
  await makeTree(outside, {
    f: { kind: 'file', content: Buffer.from('mine') },
    h: { kind: 'file', content: Buffer.from('mine') },
  });
  const before = await seeTree(outside);
  await mkdir(engine.target);
  await symlink(outside, join(engine.target, 'a'));
  await symlink(join(outside, 'h'), join(engine.target, 'g'));
  await symlink(outside, join(engine.target, 'extra'));
  await expect(engine.restore(record)).rejects.toMatchObject({ code: 'CONFLICT' });
  await engine.restore(record, { deleteExtra: true });
  expect(differences(before, await seeTree(outside))).toEqual([]);
  expect(differences(await seeTree(engine.root), await seeTree(engine.target))).toEqual([]);
});

test('a file linked to a place outside is replaced, not changed', async () => {
  await using engine = await openEngine();
  await makeTree(engine.root, { f: { kind: 'file', content: Buffer.from('same'), mode: 0o600 } });
  const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  await makeTree(engine.target, { f: { kind: 'file', content: Buffer.from('same'), mode: 0o644 } });
  const outside = join(engine.target, '../kept');
  await link(join(engine.target, 'f'), outside);
  await engine.restore(record);
  expect((await stat(outside)).mode & 0o777).toBe(0o644);
  expect(differences(await seeTree(engine.root), await seeTree(engine.target))).toEqual([]);
});

test('deletion spares what no snapshot can hold, and clears what a crashed restore left', async () => {
  await using engine = await openEngine();
  await makeTree(engine.root, {
    '.dumontignore': { kind: 'file', content: Buffer.from('*.cache\n') },
    f: { kind: 'file', content: Buffer.from('x') },
  });
  const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  const file = { kind: 'file', content: Buffer.from('local') } as const;
  await makeTree(engine.target, {
    'big.cache': file,
    'run/x.cache': file,
    'run/y': file,
    'old/z': file,
    '.dumont-tmp-0123': file,
  });
  const { removedCount } = await engine.restore(record, { deleteExtra: true });
  expect([...(await seeTree(engine.target)).keys()].toSorted()).toEqual([
    '.dumontignore',
    'big.cache',
    'f',
    'run',
    'run/x.cache',
  ]);
  expect(removedCount).toBe(4);
});

test('symlinks are replaced by what the snapshot has, and may point anywhere', async () => {
  await using engine = await openEngine();
  await makeTree(engine.root, { l: { kind: 'symlink', target: '/etc/passwd' } });
  const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  await makeTree(engine.target, { l: { kind: 'symlink', target: 'elsewhere' } });
  await engine.restore(record);
  expect(await readlink(join(engine.target, 'l'))).toBe('/etc/passwd');
});

test('an aborted restore leaves no unfinished file', async () => {
  await using engine = await openEngine();
  await makeTree(engine.root, { big: { kind: 'file', content: random(20 * MIB) } });
  const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  const stop = new AbortController();
  const stopped = engine.restore(record, { onProgress: () => stop.abort(), signal: stop.signal });
  await expect(stopped).rejects.toMatchObject({ code: 'ABORTED' });
  expect(await readdir(engine.target)).toEqual([]);
});

test('neighbouring chunks of a pack are fetched together, distant ones apart', () => {
  const id = (n: number) => String(n).repeat(64);
  const rows = [
    [id(1), 0, 0, 100, 50, 'lz4'],
    [id(2), 0, 100, 100, 50, 'lz4'],
    [id(3), 0, 9_000_000, 10, 9, 'lz4'],
    [id(4), 1, 0, 10, 9, 'stored'],
  ];
  const packs = [id(8), id(9)];
  const manifest = { packs, chunks: rows } as unknown as Parameters<typeof planJobs>[0];
  const place = (row: number) => ({ source: packs[Number(rows[row]?.[1])] ?? '', offset: Number(rows[row]?.[2]) });
  const uses = new Map([3, 2, 1, 0].map((row) => [row, [{ turn: { stage: 'small', rank: row } as const }]]));
  expect(planJobs(manifest, uses, place).map(({ ranges, chunks }) => ({ ranges, chunks: chunks.length }))).toEqual([
    { ranges: [{ source: id(8), offset: 0, length: 200 }], chunks: 2 },
    { ranges: [{ source: id(8), offset: 9_000_000, length: 10 }], chunks: 1 },
    { ranges: [{ source: id(9), offset: 0, length: 10 }], chunks: 1 },
  ]);
});

test('two chosen links to a file that is left out stay linked to each other', () => {
  const file = { type: 'file', path: 'a', mode: 0, uid: 0, gid: 0, mtimeNs: '0', size: 0, chunks: [] } as const;
  const links = ['x1', 'x2'].map((path): Entry => ({ type: 'hardlink', path, target: 'a' }));
  expect(selectEntries([{ ...file, chunks: [] }, ...links], 'x*')).toMatchObject([
    { type: 'file', path: 'x1' },
    { type: 'hardlink', path: 'x2', target: 'x1' },
  ]);
});
