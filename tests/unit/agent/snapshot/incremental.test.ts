import { chmod, mkdir, open, readFile, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setAttributeSync } from '@napi-rs/xattr';
import { expect, test } from 'vitest';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { readManifest } from '@dumont/agent/snapshot/manifest-store.ts';
import { DeltaBases } from '@dumont/agent/snapshot/delta-bases.ts';
import { HeldSnapshot } from '@dumont/agent/snapshot/held-snapshot.ts';
import { mergeScan } from '@dumont/agent/snapshot/merge.ts';
import { readTree } from '@dumont/agent/snapshot/tree-reader.ts';
import { WritePipeline } from '@dumont/agent/snapshot/write-pipeline.ts';
import { loadIgnoreRules } from '@dumont/agent/workspace/ignore.ts';
import { scanWorkspace } from '@dumont/agent/workspace/scan.ts';
import { created, openEngine } from '../../../world/engine.ts';
import { differences, makeTree, seeTree, type TreeNode } from '../../../world/tree.ts';

const MIB = 1_048_576;

function random(size: number): Buffer {
  const bytes = Buffer.alloc(size);
  for (let at = 0; at < size; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
  return bytes;
}

function bigTree(): Record<string, TreeNode> {
  const small = Array.from({ length: 200 }, (_, n) => [`src/f${n}`, { kind: 'file', content: random(500) }] as const);
  return { ...Object.fromEntries(small), 'data/weights.bin': { kind: 'file', content: random(12 * MIB) } };
}

test('nothing changed means no new snapshot, for the same process and for a fresh one', async () => {
  await using engine = await openEngine();
  await makeTree(engine.root, bigTree());
  const first = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  expect((await engine.snapshotter.create({ epoch: 1, parent: first })).kind).toBe('unchanged');
  expect((await engine.restarted().create({ epoch: 2, parent: first })).kind).toBe('unchanged');
});

test('one changed byte in a big tree uploads one chunk', async () => {
  await using engine = await openEngine();
  await makeTree(engine.root, bigTree());
  const first = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  const file = await open(join(engine.root, 'data/weights.bin'), 'r+');
  await file.write(Buffer.from('!'), 0, 1, 5 * MIB + 17);
  await file.close();
  const second = created(await engine.snapshotter.create({ epoch: 1, parent: first }));
  const known = new Set((await readManifest(engine.store, first)).manifest.chunks.map(([chunkId]) => chunkId));
  const fresh = (await readManifest(engine.store, second)).manifest.chunks.filter(([chunkId]) => !known.has(chunkId));
  expect(fresh.map(([, , , , rawLength]) => rawLength)).toEqual([second.newBytes]);
  expect(second.newBytes).toBeLessThanOrEqual(4 * MIB);
  expect(second.storedBytes).toBeLessThan(second.newBytes + 100_000);
  await engine.restore(first);
  const update = await engine.restore(second);
  expect(update).toMatchObject({ chunksFetched: 1, keptFileCount: 200 });
  expect(differences(await seeTree(engine.root), await seeTree(engine.target))).toEqual([]);
});

test('a file that is known and untouched is not read again; one that is touched is', async () => {
  await using engine = await openEngine();
  await makeTree(engine.root, { f: { kind: 'file', content: Buffer.alloc(12 * MIB, 1) } });
  let memory: HeldSnapshot | null = null;
  const readAgain = async () => {
    // An hour ahead: the file's times count as long past, so they are trusted.
    const clock = { ...systemClock, nowMs: () => systemClock.nowMs() + 3_600_000 };
    await using pipeline = new WritePipeline({
      store: engine.store,
      coding: { secrets: null, effort: 'fast' },
      known: { size: 0, has: () => false, ids: () => [] },
      clock,
    });
    const read: string[] = [];
    const tree = await readTree({
      root: engine.root,
      scan: await scanWorkspace(engine.root, await loadIgnoreRules(engine.root)),
      startedAtMs: clock.nowMs(),
      parent: null,
      memory,
      bases: null,
      pipeline: {
        readFiles: (files, onRead) => {
          read.push(...files.map((file) => file.path));
          return pipeline.readFiles(files, onRead);
        },
      },
      isStored: () => true,
    });
    memory = new HeldSnapshot(mergeScan(null, tree));
    return read.length;
  };
  expect(await readAgain()).toBe(1);
  expect(await readAgain()).toBe(0);
  await chmod(join(engine.root, 'f'), 0o600);
  expect(await readAgain()).toBe(1);
});

test('a change of the same size with its old time put back is still seen', async () => {
  await using engine = await openEngine();
  const path = join(engine.root, 'f');
  await makeTree(engine.root, { f: { kind: 'file', content: Buffer.from('one') } });
  const first = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  await writeFile(path, 'two');
  await utimes(path, 1_700_000_000.123456, 1_700_000_000.123456);
  const second = created(await engine.snapshotter.create({ epoch: 1, parent: first }));
  await engine.restore(second);
  expect(await readFile(join(engine.target, 'f'), 'utf8')).toBe('two');
});

test('a write right after a snapshot, within one tick of the file times, is never missed', async () => {
  await using engine = await openEngine();
  const path = join(engine.root, 'f');
  await writeFile(path, '000');
  let parent = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  for (let round = 1; round <= 40; round += 1) {
    await writeFile(path, String(round).padStart(3, '0'));
    parent = created(await engine.snapshotter.create({ epoch: 1, parent }));
  }
  await engine.restore(parent);
  expect(await readFile(join(engine.target, 'f'), 'utf8')).toBe('040');
});

test('renames, new folders and deletions cost no data', async () => {
  await using engine = await openEngine();
  await makeTree(engine.root, bigTree());
  const first = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  await rename(join(engine.root, 'data'), join(engine.root, 'moved'));
  await rm(join(engine.root, 'src/f7'));
  await mkdir(join(engine.root, 'empty'));
  const second = created(await engine.snapshotter.create({ epoch: 1, parent: first }));
  expect(second.newBytes).toBe(0);
  await engine.restore(first);
  await engine.restore(second, { deleteExtra: true });
  expect(differences(await seeTree(engine.root), await seeTree(engine.target))).toEqual([]);
});

test('a snapshot is right whichever parent it is given, also after a refused commit', async () => {
  await using engine = await openEngine();
  const write = (text: string) => writeFile(join(engine.root, 'f'), text);
  await write('one');
  const first = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  await write('two');
  const refused = created(await engine.snapshotter.create({ epoch: 1, parent: first }));
  const again = created(await engine.snapshotter.create({ epoch: 2, parent: first }));
  expect(again.manifestKey).not.toBe(refused.manifestKey);
  expect(again).toMatchObject({ parentId: first.snapshotId, newBytes: 0 });
  const rootless = created(await engine.snapshotter.create({ epoch: 2, parent: null }));
  expect(rootless.parentId).toBeNull();
  for (const record of [refused, again, rootless]) {
    await engine.restore(record, { deleteExtra: true });
    expect(await readFile(join(engine.target, 'f'), 'utf8')).toBe('two');
  }
  await write('one');
  expect((await engine.snapshotter.create({ epoch: 2, parent: first })).kind).toBe('created');
});

test('manifests form a chain: each names its parent with its hash and the next sequence number', async () => {
  await using engine = await openEngine();
  await writeFile(join(engine.root, 'f'), 'one');
  const first = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  await writeFile(join(engine.root, 'f'), 'two');
  const { snapshotId, manifestKey, manifestHash } = first;
  const parent = { snapshotId, manifestKey, manifestHash };
  const second = created(await engine.restarted().create({ epoch: 3, parent }));
  const { manifest } = await readManifest(engine.store, second);
  expect(manifest).toMatchObject({ parent, seq: 2, epoch: 3 });
});

test('after adopting a restored snapshot nothing is read again, and later changes are seen', async () => {
  await using engine = await openEngine();
  await makeTree(engine.root, bigTree());
  const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  await engine.restore(record);
  const onTarget = engine.restarted(engine.target);
  await onTarget.adopt(record);
  expect((await onTarget.create({ epoch: 2, parent: record })).kind).toBe('unchanged');
  await writeFile(join(engine.target, 'src/f3'), random(500));
  const next = created(await onTarget.create({ epoch: 2, parent: record }));
  expect(next.newBytes).toBe(500);
});

test('a parent whose manifest is damaged is refused', async () => {
  await using engine = await openEngine();
  await writeFile(join(engine.root, 'f'), 'one');
  const first = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  const parent = { ...first, manifestHash: '0'.repeat(64) };
  await expect(engine.restarted().create({ epoch: 1, parent })).rejects.toMatchObject({ code: 'CORRUPT' });
});

test('progress ends at everything and an abort stops it', async () => {
  await using engine = await openEngine();
  await makeTree(engine.root, bigTree());
  const seen: { doneBytes: number; totalBytes: number; doneFiles: number; totalFiles: number }[] = [];
  const stop = new AbortController();
  const stopped = engine.snapshotter.create({
    epoch: 1,
    parent: null,
    onProgress: () => stop.abort(),
    signal: stop.signal,
  });
  await expect(stopped).rejects.toMatchObject({ code: 'ABORTED' });
  await engine.snapshotter.create({ epoch: 1, parent: null, onProgress: (one) => seen.push(one) });
  const totalBytes = 200 * 500 + 12 * MIB;
  expect(seen.at(-1)).toEqual({ doneBytes: totalBytes, totalBytes, doneFiles: 201, totalFiles: 201 });
});

test('of many files, one that changed makes one segment new, wherever it lies', async () => {
  await using engine = await openEngine();
  const files = Array.from({ length: 6_000 }, (_, n) => [
    `d${n % 7}/f${n}`,
    { kind: 'file', content: Buffer.from(`${n}`) },
  ]);
  await makeTree(engine.root, Object.fromEntries(files) as Record<string, TreeNode>);
  const first = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  const before = (await readManifest(engine.store, first)).root;
  expect(before.segments.length).toBeGreaterThan(4);
  expect(before.counts).toMatchObject({ entries: 6_007, files: 6_000 });
  await writeFile(join(engine.root, 'd3/f5001-new'), 'new');
  const second = created(
    await engine.snapshotter.create({ epoch: 1, parent: first, changed: new Set(['d3/f5001-new']) }),
  );
  const after = (await readManifest(engine.store, second)).root;
  const known = new Set(before.chunks.map(([chunkId]) => chunkId));
  // The one with the file, and the one with the folder, whose time is another now.
  expect(after.chunks.filter(([chunkId]) => !known.has(chunkId)).length).toBeLessThanOrEqual(2);
  expect(second).toMatchObject({ fileCount: 6_001, newBytes: 3 });
});

test('attributes and what comes back first are part of a snapshot', async () => {
  await using engine = await openEngine();
  await makeTree(engine.root, { 'd/f': { kind: 'file', content: Buffer.from('f') } });
  setAttributeSync(join(engine.root, 'd/f'), 'user.note', 'hello');
  setAttributeSync(join(engine.root, 'd'), 'user.folder', Buffer.from([0, 255]));
  await writeFile(join(engine.root, '.dumontpriority'), '# first\nweights/\n\n*.py\n');
  const first = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  const { manifest } = await readManifest(engine.store, first);
  expect(manifest.priority).toEqual(['weights/', '*.py']);
  expect(manifest.entries).toMatchObject([
    { path: '.dumontpriority' },
    { path: 'd', xattrs: [['user.folder', 'AP8=']] },
    { path: 'd/f', xattrs: [['user.note', 'aGVsbG8=']] },
  ]);
  setAttributeSync(join(engine.root, 'd/f'), 'user.note', 'other');
  const second = created(await engine.snapshotter.create({ epoch: 1, parent: first }));
  expect(second.newBytes).toBe(0);
  expect((await readManifest(engine.store, second)).manifest.entries[2]).toMatchObject({
    xattrs: [['user.note', Buffer.from('other').toString('base64')]],
  });
});

test('a large file of the same size in the same folder is offered as a base while it is as it was', async () => {
  await using engine = await openEngine();
  await makeTree(engine.root, { 'c/old': { kind: 'file', content: random(16 * MIB) } });
  await new Promise((resolve) => systemClock.after(60, () => resolve(undefined)));
  const pipeline = new WritePipeline({
    store: engine.store,
    coding: { secrets: null, effort: 'fast' },
    known: { size: 0, has: () => false, ids: () => [] },
    clock: systemClock,
  });
  const tree = await readTree({
    root: engine.root,
    scan: await scanWorkspace(engine.root, await loadIgnoreRules(engine.root)),
    startedAtMs: systemClock.nowMs(),
    parent: null,
    memory: null,
    bases: null,
    pipeline,
    isStored: () => false,
  });
  await pipeline.finish();
  const bases = new DeltaBases(engine.root, new HeldSnapshot(mergeScan(null, tree)), (id) => pipeline.locate(id));
  const base = bases.choose('c/new', 16 * MIB);
  expect(base?.path).toBe(join(engine.root, 'c/old'));
  expect(base?.chunks.reduce((sum, chunk) => sum + (chunk?.length ?? 0), 0)).toBe(16 * MIB);
  expect(bases.choose('c/old', 16 * MIB)).toBeUndefined();
  expect(bases.choose('new', 16 * MIB)).toBeUndefined();
  expect(bases.choose('c/new', 17 * MIB)).toBeUndefined();
  await utimes(join(engine.root, 'c/old'), 1, 1);
  expect(bases.choose('c/new', 16 * MIB)).toBeUndefined();
  await pipeline[Symbol.asyncDispose]();
});
