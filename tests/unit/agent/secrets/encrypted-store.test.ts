import { execFileSync, spawnSync } from 'node:child_process';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { verifySnapshot } from '@dumont/agent/restore/verify.ts';
import { deriveSecrets } from '@dumont/agent/secrets/master-key.ts';
import { findLatest } from '@dumont/agent/snapshot/catalogue.ts';
import { readManifest } from '@dumont/agent/snapshot/manifest-store.ts';
import { hashHex } from '@dumont/agent/snapshot/chunk-codec.ts';
import { created, openEngine, type Engine } from '../../../world/engine.ts';
import { weights } from '../../../world/corpora.ts';
import { differences, makeTree, seeTree, type TreeNode } from '../../../world/tree.ts';

const hasLz4 = spawnSync('lz4', ['--version']).status === 0;
const secrets = deriveSecrets(Buffer.alloc(32, 1));
const coding = { secrets, effort: 'fast' } as const;

const SECRET_TEXT = 'the plans of the airship number fourteen';
const TREE: Readonly<Record<string, TreeNode>> = {
  'private folder/plans of demoiselle.txt': { kind: 'file', content: Buffer.from(SECRET_TEXT) },
  'text that compresses': { kind: 'file', content: Buffer.alloc(900_000, SECRET_TEXT) },
  'weights.bin': { kind: 'file', content: weights(1_500_000, 'bf16') },
  'link to something': { kind: 'symlink', target: 'a hidden target' },
  'random.bin': { kind: 'file', content: crypto.getRandomValues(Buffer.alloc(50_000)) },
};

async function snapshotOf(engine: Engine) {
  await makeTree(engine.root, TREE);
  return created(await engine.snapshotter.create({ epoch: 1, parent: null }));
}

/** Every stored object, by its path in the folder of the store. */
async function storedObjects(engine: Engine): Promise<Map<string, Buffer>> {
  const objects = new Map<string, Buffer>();
  for (const entry of await readdir(engine.storePath, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile()) objects.set(path, await readFile(path));
  }
  return objects;
}

test('any kind of file comes back from an encrypted store; what is there already is not fetched again', async () => {
  await using engine = await openEngine(coding);
  const record = await snapshotOf(engine);
  await engine.restore(record);
  expect(differences(await seeTree(engine.root), await seeTree(engine.target))).toEqual([]);
  expect(await engine.restore(record)).toMatchObject({ chunksFetched: 0, bytesWritten: 0 });
  expect((await engine.restarted(engine.target).create({ epoch: 1, parent: record })).kind).toBe('unchanged');
});

test('the same content is stored once within a store, and only what changed is stored again', async () => {
  await using engine = await openEngine(coding);
  const first = await snapshotOf(engine);
  await makeTree(engine.root, {
    copy: TREE['weights.bin'] ?? { kind: 'dir' },
    small: { kind: 'file', content: Buffer.from('new') },
  });
  const second = created(await engine.restarted().create({ epoch: 1, parent: first }));
  expect(second.newBytes).toBe(3);
});

test('no content, name, target or plain hash of any of them lies anywhere in the store', async () => {
  await using engine = await openEngine(coding);
  await snapshotOf(engine);
  const contents = Object.values(TREE).flatMap((node) => (node.kind === 'file' ? [Buffer.from(node.content)] : []));
  const secret = [
    ...Object.keys(TREE).flatMap((path) => path.split('/')),
    'hidden target',
    ...contents.flatMap((bytes) => [bytes.subarray(0, 24), bytes.subarray(bytes.length - 24)]),
    ...contents.flatMap((bytes) => [hashHex(bytes), Buffer.from(hashHex(bytes), 'hex')]),
  ];
  const objects = await storedObjects(engine);
  expect(objects.size).toBeGreaterThanOrEqual(2);
  for (const [path, bytes] of objects) {
    for (const one of secret) expect(bytes.includes(one) || path.includes(String(one))).toBe(false);
  }
});

test.skipIf(!hasLz4)('the lz4 command, where it is installed, passes over every sealed object', async () => {
  await using engine = await openEngine(coding);
  await snapshotOf(engine);
  for (const path of (await storedObjects(engine)).keys()) {
    execFileSync('lz4', ['-tq', path]);
    expect(execFileSync('lz4', ['-dcq', path]).length).toBe(0);
  }
});

test('without secrets, or with those of another store, nothing is read and nothing written', async () => {
  await using engine = await openEngine(coding);
  const record = await snapshotOf(engine);
  for (const wrong of [null, deriveSecrets(Buffer.alloc(32, 2))]) {
    await expect(engine.restore(record, { secrets: wrong })).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    const looking = verifySnapshot({
      store: engine.store,
      snapshot: record,
      clock: systemClock,
      readData: { share: 1, seed: 1 },
      secrets: wrong,
    });
    await expect(looking).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
  }
  await expect(readdir(engine.target)).rejects.toMatchObject({ code: 'ENOENT' });
});

test('a frame that was changed, or put in the place of another, is damage that verify finds and restore refuses', async () => {
  await using engine = await openEngine(coding);
  await makeTree(engine.root, {
    a: { kind: 'file', content: Buffer.from('first file') },
    b: { kind: 'file', content: Buffer.from('other file') },
  });
  const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  const { manifest } = await readManifest(engine.store, record, { secrets });
  const [pack = ''] = await readdir(join(engine.storePath, 'packs'));
  const path = join(engine.storePath, 'packs', pack);
  const good = await readFile(path);
  const [one, other] = manifest.chunks.map(([, , offset, length]) => good.subarray(offset, offset + length));
  const swapped = Buffer.concat([other ?? good, one ?? good, good.subarray((one?.length ?? 0) + (other?.length ?? 0))]);
  const changed = Buffer.from(good);
  changed.writeUInt8(changed.readUInt8(25) ^ 1, 25);
  for (const bad of [swapped, changed]) {
    await writeFile(path, bad);
    const snapshot = record;
    const found = await verifySnapshot({
      store: engine.store,
      snapshot,
      clock: systemClock,
      readData: { share: 1, seed: 1 },
      secrets,
    });
    expect(found.problemCount).toBe(bad === swapped ? 2 : 1);
    await expect(engine.restore(record)).rejects.toMatchObject({ code: 'CORRUPT' });
  }
});

test('a manifest in clear, or of another snapshot, is not believed in an encrypted store', async () => {
  await using engine = await openEngine(coding);
  const first = await snapshotOf(engine);
  await writeFile(join(engine.root, 'more'), 'more');
  const second = created(await engine.snapshotter.create({ epoch: 1, parent: first }));
  const [workspaceId = ''] = await readdir(join(engine.storePath, 'manifests'));
  const path = join(engine.storePath, second.manifestKey);
  await using plain = await openEngine();
  const inClear = await readFile(join(plain.storePath, (await snapshotOf(plain)).manifestKey));
  for (const forged of [await readFile(join(engine.storePath, first.manifestKey)), inClear]) {
    await writeFile(path, forged);
    const found = await findLatest(engine.store, workspaceId as Parameters<typeof findLatest>[1]);
    const reading = readManifest(engine.store, found ?? second, { secrets });
    await expect(reading).rejects.toMatchObject({ code: 'CORRUPT' });
  }
});
