import { availableParallelism } from 'node:os';
import type { PackIndexEntry } from '@dumont/shared/format/pack.ts';
import { assert } from '@dumont/shared/util/assert.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { throwIfAborted, type ObjectStore } from '../storage/object-store.ts';
import { MIN_CHUNK_BYTES } from './cdc/cut-window.ts';
import { planTensorFile, type FileRead } from './file-reader.ts';
import { PackWriter, type ChunkLocation } from './pack-writer.ts';
import { ChunkCoder, type CodingOptions } from './planes/chunk-coder.ts';
import type { BaseFile } from './writing/base-file.ts';
import { LocalClaims, SharedClaims } from './writing/chunk-claims.ts';
import { ChunkIds } from './writing/chunk-ids.ts';
import { ChunkWriter } from './writing/chunk-writer.ts';
import { FILE_COST_BYTES, FileWorker } from './writing/file-worker.ts';
import { PACK_BUFFER_BYTES } from './writing/pack-builder.ts';
import { planBatches, SPLIT_FILE_BYTES } from './writing/plan-tasks.ts';
import { SplitFile } from './writing/split-file.ts';
import { unpackReads } from './writing/write-messages.ts';
import { WriteThreads } from './writing/write-threads.ts';

/** More threads than this would take from the workload what a disk or a network cannot use anyway. */
const MAX_THREADS = 4;
/** Less work than this many bytes is done here: starting threads takes as long. */
const MIN_THREADED_BYTES = 48 * 1024 * 1024;

/** Buffers of packs and threads. With the process itself and what is known of the files, it stays below 400 MB. */
const DEFAULT_MEMORY_BYTES = 176 * 1024 * 1024;
/** Of a thread: its window and kernel, and what they leave to the collector. */
const THREAD_BYTES = 24 * 1024 * 1024;
/** Packs on their way to the store, besides one that each thread fills, however little memory there is. */
const MIN_UPLOADS = 2;

/** Chunks the store holds already. */
export interface KnownChunks {
  readonly size: number;
  has(chunkId: string): boolean;
  ids(): Iterable<string>;
}

export interface WritePipelineOptions {
  readonly store: ObjectStore;
  readonly coding: CodingOptions;
  readonly known: KnownChunks;
  readonly clock: Clock;
  /** Called when a pack is stored for good. */
  readonly onPackStored?: ((packId: string, entries: readonly PackIndexEntry[]) => void) | undefined;
  /** What packs and threads may take, about; 176 MiB when absent. A few buffers are always allowed. */
  readonly memoryBytes?: number | undefined;
  /** Threads at most; 0 to do everything here. As many as there are cores, four at most, when absent. */
  readonly maxThreads?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A file to read; the path is absolute. */
export interface FileToRead {
  readonly path: string;
  readonly sizeBytes: number;
  /** A file whose chunks are good bases. Only a help: bytes that no longer have their id are not used. */
  readonly base?: BaseFile | undefined;
}

/**
 * Reads files, cuts them into chunks and uploads the new ones in packs, a bounded number of bytes at once. Much work goes
 * to threads, each of which does everything but the upload; little work is done here, by the same code. One `readFiles` at a
 * time. Dispose it to stop: nothing is in flight afterwards.
 */
export class WritePipeline implements AsyncDisposable {
  readonly #options: WritePipelineOptions;
  readonly #packs: PackWriter;
  readonly #located = new Map<string, ChunkLocation>();
  readonly #ids: ChunkIds;
  readonly #threadCount: number;
  /** Who stores which chunk: here alone, or with the threads. */
  #claims: LocalClaims | SharedClaims;
  #writer: ChunkWriter | undefined;
  #worker: FileWorker | undefined;
  #threads: WriteThreads | undefined;
  #onBytesRead: (byteCount: number) => void = ignoreBytes;
  #newBytes = 0;

  constructor(options: WritePipelineOptions) {
    const { store, coding, known, signal, onPackStored } = options;
    this.#options = options;
    this.#ids = new ChunkIds(coding.secrets);
    this.#claims = new LocalClaims((chunkId) => known.has(chunkId));
    this.#threadCount = options.maxThreads ?? Math.min(MAX_THREADS, availableParallelism());
    const bufferBytes = (options.memoryBytes ?? DEFAULT_MEMORY_BYTES) - (this.#threadCount + 1) * THREAD_BYTES;
    this.#packs = new PackWriter({
      store,
      maxBuffers: Math.max(this.#threadCount + 1 + MIN_UPLOADS, Math.floor(bufferBytes / PACK_BUFFER_BYTES)),
      onPackStored,
      onFailure: (error) => this.#threads?.fail(error),
      signal,
    });
  }

  /** Raw bytes of the new chunks so far. */
  get newBytes(): number {
    return this.#newBytes;
  }

  get newChunkCount(): number {
    return this.#located.size;
  }

  /** Ids of the packs stored. */
  get storedPacks(): ReadonlySet<string> {
    return this.#packs.storedPacks;
  }

  /** Bytes of the packs stored. */
  get storedBytes(): number {
    return this.#packs.storedBytes;
  }

  /**
   * Reads files in any order; `onRead` gets each one's result as soon as it is known. Throws what an upload threw.
   * What is wrong with a single file is a result.
   * @param onBytesRead called with the bytes read since the last call; what is read again counts again
   */
  async readFiles<File extends FileToRead>(
    files: readonly File[],
    onRead: (file: File, read: FileRead) => void,
    onBytesRead: (byteCount: number) => void = ignoreBytes,
  ): Promise<void> {
    this.#onBytesRead = onBytesRead;
    throwIfAborted(this.#options.signal);
    this.#packs.throwFailure();
    const costBytes = files.reduce((sum, { sizeBytes }) => sum + sizeBytes + FILE_COST_BYTES, 0);
    if (this.#threadCount === 0 || (this.#threads === undefined && costBytes < MIN_THREADED_BYTES)) {
      await this.#readHere(files, onRead);
    } else {
      await this.#readInThreads(files, onRead);
    }
  }

  /** Stores one chunk that is not part of a file, unless it is known. @returns its id */
  async addChunk(raw: Uint8Array): Promise<string> {
    this.#packs.throwFailure();
    const bytes = Buffer.from(raw.buffer, raw.byteOffset, raw.length);
    const chunkId = this.#ids.idOf(bytes);
    await this.#openWriter().write({ chunkId, raw: bytes });
    return chunkId;
  }

  /** Where a chunk written here lies, from when `readFiles` or `addChunk` returned; undefined for known ones. */
  locate(chunkId: string): ChunkLocation | undefined {
    return this.#located.get(chunkId);
  }

  /** Uploads the rest; when it returns every chunk is stored for good. */
  async finish(): Promise<void> {
    await this.#threads?.flush();
    this.#writer?.flush();
    await this.#packs.finish();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#threads?.[Symbol.asyncDispose]();
    await this.#packs[Symbol.asyncDispose]();
  }

  async #readHere<File extends FileToRead>(
    files: readonly File[],
    onRead: (file: File, read: FileRead) => void,
  ): Promise<void> {
    const worker = this.#openWorker();
    for (const file of files) {
      onRead(file, await worker.readFile(file));
      this.#packs.throwFailure();
    }
  }

  async #readInThreads<File extends FileToRead>(
    files: readonly File[],
    onRead: (file: File, read: FileRead) => void,
  ): Promise<void> {
    const batches = planBatches(files);
    const isSplit = batches.some(([first]) => first !== undefined && first.sizeBytes >= SPLIT_FILE_BYTES);
    const threads = this.#openThreads(files, isSplit ? this.#threadCount : batches.length);
    const { signal } = this.#options;
    const onAbort = () => threads.fail(abortError(signal));
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      for (const batch of batches) {
        const [first] = batch;
        if (first !== undefined && first.sizeBytes >= SPLIT_FILE_BYTES && this.#addParts(threads, first, onRead))
          continue;
        addBatch(threads, batch, onRead);
      }
      await threads.run();
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** False when the file has no tensors to part it at. */
  #addParts<File extends FileToRead>(
    threads: WriteThreads,
    file: File,
    onRead: (file: File, read: FileRead) => void,
  ): boolean {
    const plan = planTensorFile(file.path, this.#openWorker().scratch, this.#options.clock);
    if (plan === null) return false;
    const split = new SplitFile(file, plan, (read) => {
      if (read === null) addBatch(threads, [file], onRead);
      else onRead(file, read);
    });
    for (const task of split.tasks()) threads.add(task);
    return true;
  }

  /** @param taskCount threads that have something to do now; the number stays what it is at first */
  #openThreads(files: readonly FileToRead[], taskCount: number): WriteThreads {
    const roomFor = this.#options.known.size + this.#located.size + maxChunksOf(files);
    const before = this.#claims instanceof SharedClaims ? this.#claims : null;
    if (this.#threads !== undefined && before !== null && before.capacity >= roomFor) return this.#threads;
    const claims = SharedClaims.withRoomFor(roomFor);
    for (const chunkId of this.#options.known.ids()) claims.claim(chunkId);
    for (const chunkId of this.#located.keys()) claims.claim(chunkId);
    this.#claims = claims;
    this.#writer?.setClaims(claims);
    this.#threads?.setClaims(claims);
    this.#threads ??= new WriteThreads({
      count: Math.min(this.#threadCount, taskCount),
      coding: this.#options.coding,
      claims,
      packs: this.#packs,
      onLocated: (location) => this.#learn(location),
      onBytes: (byteCount) => this.#onBytesRead(byteCount),
    });
    return this.#threads;
  }

  #openWriter(): ChunkWriter {
    this.#writer ??= new ChunkWriter(new ChunkCoder(this.#options.coding), this.#claims, {
      outlet: {
        send: (pack) => this.#packs.upload(pack),
        takeBuffer: () => this.#packs.takeBuffer(),
      },
      onLocated: (location) => this.#learn(location),
    });
    return this.#writer;
  }

  #openWorker(): FileWorker {
    this.#worker ??= new FileWorker({
      ids: this.#ids,
      writer: this.#openWriter(),
      clock: this.#options.clock,
      onBytes: (byteCount) => {
        throwIfAborted(this.#options.signal);
        this.#onBytesRead(byteCount);
      },
    });
    return this.#worker;
  }

  #learn(location: ChunkLocation): void {
    if (this.#located.has(location.chunkId)) return;
    this.#located.set(location.chunkId, location);
    this.#newBytes += location.rawLength;
  }
}

function addBatch<File extends FileToRead>(
  threads: WriteThreads,
  files: readonly File[],
  onRead: (file: File, read: FileRead) => void,
): void {
  threads.add({
    task: { type: 'files', files: files.map(({ path, base }) => ({ path, base })) },
    onDone: (result) => {
      assert(result.type === 'files', 'a task has a result of its type');
      for (const [row, read] of unpackReads(result.reads).entries()) {
        const file = files[row];
        if (file !== undefined) onRead(file, read);
      }
    },
  });
}

/** Chunks there can be in files that do not grow meanwhile: no two neighbours are both shorter than the shortest. */
function maxChunksOf(files: readonly FileToRead[]): number {
  return files.reduce((sum, { sizeBytes }) => sum + 2 + Math.floor(sizeBytes / MIN_CHUNK_BYTES), 0);
}

function abortError(signal: AbortSignal | undefined): unknown {
  try {
    throwIfAborted(signal);
  } catch (error) {
    return error;
  }
  return signal?.reason;
}

function ignoreBytes(): void {
  // Nobody wants to know.
}
