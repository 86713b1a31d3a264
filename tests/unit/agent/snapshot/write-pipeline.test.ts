import { chmodSync, closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { mkdir, readdir, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { decodePackIndex, decodePackTrailer, PACK_TRAILER_BYTES } from '@dumont/shared/format/pack.ts';
import { packKey } from '@dumont/shared/format/layout.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { hashHex } from '@dumont/agent/snapshot/chunk-codec.ts';
import { CutWindow } from '@dumont/agent/snapshot/cdc/cut-window.ts';
import { planTensorFile, type FileRead } from '@dumont/agent/snapshot/file-reader.ts';
import { ChunkCoder } from '@dumont/agent/snapshot/planes/chunk-coder.ts';
import { WritePipeline, type FileToRead, type WritePipelineOptions } from '@dumont/agent/snapshot/write-pipeline.ts';
import { FileStore } from '@dumont/agent/storage/file-store.ts';
import type { ObjectStore } from '@dumont/agent/storage/object-store.ts';
import { chunksOf, seededBytes } from '../../../world/chunking.ts';
import { eventually } from '../../../world/eventually.ts';
import { makeTempFolder } from '../../../world/temp-folder.ts';
import { safetensorsFile } from '../../../world/tensor-files.ts';

const MIB = 1_048_576;
const PLAIN = { secrets: null, effort: 'fast' } as const;
const NOTHING = { size: 0, has: () => false, ids: () => [] };

function openPipeline(store: ObjectStore, options: Partial<WritePipelineOptions> = {}): WritePipeline {
  return new WritePipeline({ store, coding: PLAIN, known: NOTHING, clock: systemClock, ...options });
}

async function readAll(
  pipeline: WritePipeline,
  files: readonly FileToRead[],
  onBytesRead?: (byteCount: number) => void,
): Promise<Map<string, FileRead>> {
  const reads = new Map<string, FileRead>();
  const onRead = ({ path }: FileToRead, read: FileRead) => {
    expect(reads.has(path)).toBe(false);
    reads.set(path, read);
  };
  await pipeline.readFiles(files, onRead, onBytesRead);
  return reads;
}

function chunkIdsOf(read: FileRead | undefined): readonly string[] {
  if (read?.kind !== 'read') throw new Error(`expected a file, it is ${read?.kind}`);
  return read.chunkIds;
}

/** Raw bytes of chunks one after the other, from the packs. */
async function fetchChunks(pipeline: WritePipeline, store: ObjectStore, ids: readonly string[]): Promise<Buffer> {
  const coder = new ChunkCoder(PLAIN);
  const parts: Uint8Array[] = [];
  for (const chunkId of ids) {
    const at = pipeline.locate(chunkId);
    if (at === undefined) throw new Error(`chunk ${chunkId} was not written`);
    const frame = await store.get(packKey(at.packId), { range: { offset: at.offset, length: at.storedLength } });
    parts.push(coder.decode(frame, { chunkId, codec: at.codec, rawLength: at.rawLength }));
  }
  return Buffer.concat(parts);
}

/** Enough files for threads: small ones with duplicates, medium and large ones. */
async function makeFiles(folder: string): Promise<ReadonlyMap<string, Buffer>> {
  const contents = new Map<string, Buffer>();
  for (let n = 0; n < 3_000; n += 1) contents.set(join(folder, `s${n}`), seededBytes(200 + (n % 50), n % 2_500));
  contents.set(join(folder, 'empty'), Buffer.alloc(0));
  contents.set(join(folder, 'medium'), seededBytes(3 * MIB, 1));
  contents.set(join(folder, 'large'), seededBytes(40 * MIB, 2));
  contents.set(join(folder, 'copy'), seededBytes(40 * MIB, 2));
  contents.set(join(folder, 'zeros'), Buffer.concat([Buffer.alloc(30 * MIB), seededBytes(99, 4)]));
  for (const [path, bytes] of contents) await writeFile(path, bytes);
  return contents;
}

test.each([
  { where: 'here', maxThreads: 0 },
  { where: 'by three threads', maxThreads: 3 },
])('files read $where are cut as ever, stored once and can be read back', async ({ maxThreads }) => {
  await using folder = await makeTempFolder();
  const root = join(folder.path, 'ws');
  await mkdir(root);
  const contents = await makeFiles(root);
  const store = new FileStore(join(folder.path, 'store'));
  const packs = new Map<string, number>();
  let readBytes = 0;
  await using pipeline = openPipeline(store, {
    maxThreads,
    onPackStored: (packId, entries) => packs.set(packId, entries.length),
  });
  const files = [...contents].map(([path, { length }]) => ({ path, sizeBytes: length }));
  const reads = await readAll(pipeline, files, (byteCount) => (readBytes += byteCount));
  expect(reads.size).toBe(files.length);
  expect(readBytes).toBeGreaterThanOrEqual(files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0));
  const segmentId = await pipeline.addChunk(Buffer.from('a chunk of no file'));
  await pipeline.finish();

  const distinct = new Map<string, number>([[segmentId, 18]]);
  for (const [path, bytes] of contents) {
    const isSmall = bytes.length > 0 && bytes.length < 1_000;
    const expected = isSmall ? [{ id: hashHex(bytes), length: bytes.length }] : chunksOf(bytes);
    expect(chunkIdsOf(reads.get(path))).toEqual(expected.map(({ id }) => id));
    for (const { id, length } of expected) distinct.set(id, length);
  }
  expect(pipeline.newChunkCount).toBe(distinct.size);
  expect(pipeline.newBytes).toBe([...distinct.values()].reduce((sum, length) => sum + length, 0));
  for (const name of ['s0', 's2999', 'medium', 'large', 'zeros']) {
    const path = join(root, name);
    const bytes = await fetchChunks(pipeline, store, chunkIdsOf(reads.get(path)));
    expect(bytes.equals(contents.get(path) ?? Buffer.alloc(1))).toBe(true);
  }
  expect([...packs.values()].reduce((sum, count) => sum + count, 0)).toBe(distinct.size);
  await expectTruePacks(store, pipeline);
});

/** Every pack's own index says what the pipeline says, and packs have the bytes it says. */
async function expectTruePacks(store: FileStore, pipeline: WritePipeline): Promise<void> {
  let storedBytes = 0;
  for await (const { key } of store.list('packs/')) {
    const pack = await store.get(key);
    storedBytes += pack.length;
    expect(pack.length).toBeLessThanOrEqual(16.25 * MIB);
    const range = decodePackTrailer(pack.subarray(-PACK_TRAILER_BYTES), pack.length);
    for (const entry of decodePackIndex(pack.subarray(range.offset, range.offset + range.length), range)) {
      expect(pipeline.locate(entry.chunkId)).toMatchObject({ ...entry, packId: key.slice('packs/'.length) });
    }
  }
  expect(pipeline.storedBytes).toBe(storedBytes);
}

test('chunks the store has are not written, in threads that were there before they became known as well', async () => {
  await using folder = await makeTempFolder();
  const store = new FileStore(join(folder.path, 'store'));
  const [known, fresh] = [seededBytes(60 * MIB, 5), seededBytes(60 * MIB, 6)];
  for (const [name, bytes] of Object.entries({ known, fresh })) await writeFile(join(folder.path, name), bytes);
  const knownIds = new Set(chunksOf(known).map(({ id }) => id));
  await using pipeline = openPipeline(store, {
    maxThreads: 2,
    known: { size: knownIds.size, has: (id) => knownIds.has(id), ids: () => knownIds },
  });
  const toRead = (name: string) => ({ path: join(folder.path, name), sizeBytes: 60 * MIB });
  await readAll(pipeline, [toRead('known')]);
  expect(pipeline.newChunkCount).toBe(0);
  await readAll(pipeline, [toRead('known'), toRead('fresh')]);
  expect(pipeline.newBytes).toBe(60 * MIB);
  await readAll(pipeline, [toRead('fresh'), toRead('fresh'), { ...toRead('known'), sizeBytes: 4_000 * MIB }].slice(1));
  await pipeline.addChunk(fresh.subarray(0, chunksOf(fresh)[0]?.length));
  expect(pipeline.newBytes).toBe(60 * MIB);
});

test('a large file of tensors that threads read in parts has the chunks of one read as a whole', async () => {
  await using folder = await makeTempFolder();
  const path = join(folder.path, 'model.safetensors');
  const tensors = [70, 1, 0.01, 0.3, 66].map((mib, n) => ({
    name: `t${n}`,
    bytes: seededBytes(2 * Math.floor(mib * 512 * 1024), n),
  }));
  const bytes = safetensorsFile(tensors);
  await writeFile(path, bytes);
  const store = new FileStore(join(folder.path, 'store'));
  const scratch = new CutWindow().bytes;
  await eventually('the file is old enough', () => planTensorFile(path, scratch, systemClock) !== null);
  await using pipeline = openPipeline(store, { maxThreads: 3 });
  const reads = await readAll(pipeline, [{ path, sizeBytes: bytes.length }]);
  expect(chunkIdsOf(reads.get(path))).toEqual(chunksOf(bytes).map(({ id }) => id));
  expect(reads.get(path)).toMatchObject({ sizeBytes: bytes.length, settled: true, torn: false });
});

test('what cannot be read is a result, whoever reads it', async () => {
  await using folder = await makeTempFolder();
  await writeFile(join(folder.path, 'big'), seededBytes(60 * MIB, 1));
  await symlink('big', join(folder.path, 'link'));
  const paths = ['none', 'link', '.', 'big/below'].map((name) => join(folder.path, name));
  for (const maxThreads of [0, 2]) {
    await using pipeline = openPipeline(new FileStore(join(folder.path, 'store')), { maxThreads });
    const files = [join(folder.path, 'big'), ...paths].map((path) => ({ path, sizeBytes: 60 * MIB }));
    const reads = await readAll(pipeline, files);
    expect(paths.map((path) => reads.get(path)?.kind)).toEqual(['vanished', 'vanished', 'vanished', 'vanished']);
  }
  if (process.getuid?.() === 0) return;
  chmodSync(join(folder.path, 'big'), 0);
  await using pipeline = openPipeline(new FileStore(join(folder.path, 'store')));
  const file = { path: join(folder.path, 'big'), sizeBytes: 60 * MIB };
  expect((await readAll(pipeline, [file])).get(file.path)).toEqual({ kind: 'unreadable', reason: 'EACCES' });
});

test('a sparse file of 20 GB with some data takes its data only', async () => {
  await using folder = await makeTempFolder();
  const path = join(folder.path, 'disk.img');
  const data = seededBytes(MIB, 7);
  const file = openSync(path, 'w');
  ftruncateSync(file, 20_000 * MIB);
  writeSync(file, data, 0, data.length, 10_000 * MIB);
  closeSync(file);
  const store = new FileStore(join(folder.path, 'store'));
  await using pipeline = openPipeline(store);
  const read = (await readAll(pipeline, [{ path, sizeBytes: 20_000 * MIB }])).get(path);
  expect(read).toMatchObject({
    kind: 'read',
    holes: [
      [0, 10_000 * MIB],
      [10_004 * MIB, 9_996 * MIB],
    ],
  });
  await pipeline.finish();
  const stored = await fetchChunks(pipeline, store, chunkIdsOf(read));
  expect(stored.equals(Buffer.concat([data, Buffer.alloc(3 * MIB)]))).toBe(true);
});

/** A store whose uploads end when and how the test says. */
class HeldStore extends FileStore {
  readonly started: string[] = [];
  readonly #outcome: (started: number, signal: AbortSignal | undefined) => Promise<void>;

  constructor(path: string, outcome: (started: number, signal: AbortSignal | undefined) => Promise<void>) {
    super(path);
    this.#outcome = outcome;
  }

  override async put(...call: Parameters<FileStore['put']>): Promise<'stored' | 'exists'> {
    this.started.push(call[0]);
    await this.#outcome(this.started.length, call[2]?.signal);
    return super.put(...call);
  }
}

test.each([{ maxThreads: 0 }, { maxThreads: 2 }])(
  'the first upload that fails ends all, and nothing is in flight after dispose: %o',
  async ({ maxThreads }) => {
    await using folder = await makeTempFolder();
    const path = join(folder.path, 'f');
    await writeFile(path, seededBytes(200 * MIB, 3));
    const store = new HeldStore(join(folder.path, 'store'), async (started) => {
      if (started === 3) throw new DumontError('UNAUTHORIZED', 'the third upload is refused');
    });
    {
      await using pipeline = openPipeline(store, { maxThreads });
      const reading = async () => {
        await readAll(pipeline, [{ path, sizeBytes: 200 * MIB }]);
        await pipeline.finish();
      };
      await expect(reading()).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
      await expect(pipeline.finish()).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
      await expect(pipeline.addChunk(Buffer.from('more'))).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    }
    const { length } = store.started;
    const stored = await readdir(join(folder.path, 'store/packs'));
    expect(stored.every((name) => !name.startsWith('.'))).toBe(true);
    expect(store.started.length).toBe(length);
  },
);

test.each([{ maxThreads: 0 }, { maxThreads: 2 }])(
  'a store that does not answer holds the readers up with bounded memory, and an abort frees them: %o',
  async ({ maxThreads }) => {
    await using folder = await makeTempFolder();
    const path = join(folder.path, 'f');
    await writeFile(path, seededBytes(160 * MIB, 3));
    const store = new HeldStore(join(folder.path, 'store'), async (_, signal) => {
      await systemClock.sleep(60_000, signal).catch(() => undefined);
      throw new DumontError('ABORTED', 'the upload was stopped');
    });
    const stop = new AbortController();
    await using pipeline = openPipeline(store, { maxThreads, memoryBytes: 1, signal: stop.signal });
    const reading = readAll(pipeline, [{ path, sizeBytes: 160 * MIB }]);
    const outcome = reading.catch((error: unknown) => error);
    const maxBuffers = maxThreads + 3;
    await eventually('all but some buffers are on their way', () => store.started.length >= 2);
    stop.abort();
    expect(await outcome).toMatchObject({ code: 'ABORTED' });
    expect(store.started.length).toBeLessThanOrEqual(maxBuffers);
  },
);

test('a file that grew since it was looked at is read to its end, and a chunk too many for the claims is no harm', async () => {
  await using folder = await makeTempFolder();
  const root = join(folder.path, 'ws');
  await mkdir(root);
  const bytes = seededBytes(80 * MIB, 8);
  const files = ['a', 'b'].map((name) => ({ path: join(root, name), sizeBytes: 25 * MIB }));
  for (const { path } of files) await writeFile(path, bytes);
  const store = new FileStore(join(folder.path, 'store'));
  await using pipeline = openPipeline(store, { maxThreads: 2 });
  const reads = await readAll(pipeline, files);
  for (const { path } of files) expect(chunkIdsOf(reads.get(path))).toEqual(chunksOf(bytes).map(({ id }) => id));
  await truncate(files[0]?.path ?? '', 0);
  await rm(files[1]?.path ?? '');
  expect([...(await readAll(pipeline, files)).values()].map(({ kind }) => kind).toSorted()).toEqual([
    'read',
    'vanished',
  ]);
  await pipeline.finish();
  expect(
    hashHex(
      await fetchChunks(
        pipeline,
        store,
        chunksOf(bytes).map(({ id }) => id),
      ),
    ),
  ).toBe(hashHex(bytes));
});
