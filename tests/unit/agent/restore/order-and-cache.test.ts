import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { GetOptions } from '@dumont/agent/storage/object-store.ts';
import { FileStore } from '@dumont/agent/storage/file-store.ts';
import { orderEntries } from '@dumont/agent/restore/select.ts';
import type { Entry } from '@dumont/shared/format/manifest.ts';
import { readSnapshot } from '@dumont/agent/snapshot/manifest-store.ts';
import { created, openEngine, type Engine } from '../../../world/engine.ts';
import { random32 } from '../../../world/random32.ts';
import { differences, makeTree, seeTree } from '../../../world/tree.ts';
import { METADATA } from './crafted.ts';

const MIB = 1_048_576;

function noise(size: number, seed: number): Buffer {
  const next = random32(seed);
  const bytes = Buffer.alloc(size);
  for (let at = 0; at + 4 <= size; at += 4) bytes.writeUInt32LE(next(), at);
  return bytes;
}

async function makeMixedTree(engine: Engine): Promise<void> {
  const small = Array.from({ length: 40 }, (_, n) => [`src/f${n}.ts`, noise(3_000, n)] as const);
  const large = Array.from({ length: 6 }, (_, n) => [`ckpt/step-${n}.pt`, noise(5 * MIB, 100 + n)] as const);
  const nodes = [...small, ...large].map(([path, content]) => [path, { kind: 'file', content }] as const);
  await makeTree(engine.root, {
    ...Object.fromEntries(nodes),
    empty: { kind: 'file', content: Buffer.alloc(0) },
    'latest.pt': { kind: 'symlink', target: 'ckpt/step-5.pt' },
    'best.pt': { kind: 'hardlink', target: 'ckpt/step-4.pt' },
  });
}

test('what is asked for first is in its place before the rest is fetched, and is announced', async () => {
  await using engine = await openEngine();
  await makeMixedTree(engine);
  const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  /** Serves no byte of packs beyond the first stage until that is announced. */
  class WaitingStore extends FileStore {
    readonly ready = Promise.withResolvers<void>();
    readonly stageBytes = 20 * MIB;
    #served = 0;
    override async get(key: string, options: GetOptions = {}): Promise<Uint8Array> {
      const length = options.range?.length ?? 0;
      this.#served += length;
      if (this.#served > this.stageBytes) await this.ready.promise;
      return super.get(key, options);
    }
  }
  const store = new WaitingStore(engine.storePath);
  const events: string[] = [];
  const outcome = await engine.restore(record, {
    store,
    first: ['latest.pt', 'step-5.pt', 'best.pt'],
    onReady: (part) => {
      events.push(part);
      store.ready.resolve();
    },
  });
  expect(events).toEqual(['priority', 'all']);
  expect(outcome.readyMs.priority).toBeLessThanOrEqual(outcome.readyMs.all);
  expect(differences(await seeTree(engine.root), await seeTree(engine.target))).toEqual([]);
});

test('the order is: what patterns name, in their order, then small files, then the rest; a link brings its file', () => {
  const file = (path: string, size: number): Entry => ({ type: 'file', path, ...METADATA, size, chunks: [] });
  const entries: Entry[] = [
    file('a-big', 10 * MIB),
    file('b-small', 10),
    file('c.pt', 10 * MIB),
    file('d.cfg', 10),
    { type: 'hardlink', path: 'e.cfg', target: 'a-big' },
    file('f-big', 10 * MIB),
  ];
  const order = (patterns: string[]) => {
    const turns = [...orderEntries(entries, patterns)].map(([path, { stage, rank }]) => ({ path, stage, rank }));
    const stages = ['priority', 'small', 'large'];
    turns.sort((x, y) => stages.indexOf(x.stage) - stages.indexOf(y.stage) || x.rank - y.rank);
    return turns.map(({ path, stage }) => `${stage}:${path}`);
  };
  expect(order([])).toEqual([
    'small:b-small',
    'small:d.cfg',
    'small:e.cfg',
    'large:a-big',
    'large:c.pt',
    'large:f-big',
  ]);
  expect(order(['*.pt', '*.cfg', '!d.cfg'])).toEqual([
    'priority:c.pt',
    'priority:a-big',
    'priority:e.cfg',
    'small:b-small',
    'small:d.cfg',
    'large:f-big',
  ]);
});

test('a second restore with the same cache fetches nothing, and damage in the cache is fetched anew', async () => {
  await using engine = await openEngine();
  await makeMixedTree(engine);
  const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  const dir = join(engine.target, '../cache');
  const cache = { dir, maxBytes: 1024 * MIB };
  const into = (name: string) => engine.restore(record, { cache, target: join(engine.target, name) });
  const { storedBytes: manifestBytes } = await readSnapshot(engine.store, record);
  const first = await into('1');
  expect(first).toMatchObject({ bytesFromCache: 0 });
  const second = await into('2');
  expect(second.bytesFetched).toBe(manifestBytes);
  expect(second.chunksFetched).toBe(first.chunksFetched);
  const segments = await readdir(dir);
  for (const [index, name] of segments.entries()) {
    const bytes = await readFile(join(dir, name));
    if (index % 3 === 0) bytes[1_000] = (bytes[1_000] ?? 0) ^ 1;
    await writeFile(join(dir, name), index % 3 === 1 ? bytes.subarray(0, 2_000) : bytes);
  }
  const third = await into('3');
  expect(third.bytesFetched).toBeGreaterThan(manifestBytes);
  for (const name of ['1', '2', '3']) {
    expect(differences(await seeTree(engine.root), await seeTree(join(engine.target, name)))).toEqual([]);
  }
  const fourth = await into('4');
  expect(fourth.bytesFetched).toBe(manifestBytes);
});

test('a cache stays within its bytes, and one that is no folder is an error before anything is written', async () => {
  await using engine = await openEngine();
  await makeMixedTree(engine);
  const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  const dir = join(engine.target, '../cache');
  await engine.restore(record, { cache: { dir, maxBytes: 12 * MIB } });
  const kept = await Promise.all((await readdir(dir)).map(async (name) => (await readFile(join(dir, name))).length));
  expect(kept.length).toBeGreaterThan(0);
  expect(kept.reduce((sum, bytes) => sum + bytes, 0)).toBeLessThanOrEqual(12 * MIB);
  await mkdir(join(engine.target, '../other'));
  const target = join(engine.target, '../other');
  const file = join(engine.root, 'empty');
  await expect(engine.restore(record, { cache: { dir: file, maxBytes: MIB }, target })).rejects.toMatchObject({
    code: 'IO',
  });
  expect(await readdir(target)).toEqual([]);
});
