import type { PackIndexEntry } from '@dumont/shared/format/pack.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { forEachBounded } from '../storage/for-each-bounded.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { CodecPool } from '../workers/codec-pool.ts';
import { CutWindow } from './cdc/cut-window.ts';
import { readFileChunks, type FileRead } from './file-reader.ts';
import { PackWriter, type ChunkLocation } from './pack-writer.ts';
import type { CodingOptions } from './planes/chunk-coder.ts';
import { chunkIdOf } from './seal.ts';

/** Files read at once, one window of 8 MiB each: covers the latency of a disk without holding much memory. */
const MAX_READERS = 8;

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
  readonly signal?: AbortSignal | undefined;
}

/** A file to read; the path is absolute. */
export interface FileToRead {
  readonly path: string;
  readonly sizeBytes: number;
  /**
   * A file it may resemble, such as the checkpoint before it: absolute path, and its chunks in file order as they were
   * last snapshot; null where a chunk cannot be a base because it is a difference itself. Only a help: bytes that no longer
   * have their id are not used.
   */
  readonly base?:
    | { readonly path: string; readonly chunks: readonly ({ readonly id: string; readonly length: number } | null)[] }
    | undefined;
}

/**
 * Reads files, cuts them into chunks and uploads the new ones in packs, a bounded number of bytes at once. Dispose it to
 * stop: nothing is in flight afterwards.
 */
export class WritePipeline implements AsyncDisposable {
  readonly #options: WritePipelineOptions;
  readonly #codecs: CodecPool;
  readonly #packs: PackWriter;
  readonly #idleWindows: CutWindow[] = [];

  constructor(options: WritePipelineOptions) {
    const { store, coding, known, signal, onPackStored } = options;
    this.#options = options;
    this.#codecs = new CodecPool(coding);
    this.#packs = new PackWriter({
      store,
      codecs: this.#codecs,
      isKnown: (chunkId) => known.has(chunkId),
      onPackStored,
      signal,
    });
  }

  /** Raw bytes of the new chunks so far. */
  get newBytes(): number {
    return this.#packs.newBytes;
  }

  get newChunkCount(): number {
    return this.#packs.located.size;
  }

  /** Bytes of the packs stored. */
  get storedBytes(): number {
    return this.#packs.storedBytes;
  }

  /**
   * Reads files in any order; `onRead` gets each one's result as soon as it is known. Throws what an upload threw.
   * What is wrong with a single file is a result.
   */
  async readFiles<File extends FileToRead>(
    files: readonly File[],
    onRead: (file: File, read: FileRead) => void,
  ): Promise<void> {
    const { clock, signal } = this.#options;
    const onChunk = (chunkId: string, raw: Uint8Array) => this.#packs.add(chunkId, raw);
    const toId = (raw: Uint8Array) => chunkIdOf(raw, this.#options.coding.secrets);
    await forEachBounded(files, MAX_READERS, async (file) => {
      const window = this.#idleWindows.pop() ?? new CutWindow();
      onRead(file, await readFileChunks(file.path, { clock, window, toId, onChunk, signal }));
      this.#idleWindows.push(window);
    });
  }

  /** Stores one chunk that is not part of a file, unless it is known. @returns its id */
  async addChunk(raw: Uint8Array): Promise<string> {
    const chunkId = chunkIdOf(raw, this.#options.coding.secrets);
    await this.#packs.add(chunkId, raw);
    return chunkId;
  }

  /** Where a chunk written here lies, from the moment it was added; undefined for known ones. */
  locate(chunkId: string): ChunkLocation | undefined {
    return this.#packs.located.get(chunkId);
  }

  /** Uploads the rest; when it returns every chunk is stored for good. */
  finish(): Promise<void> {
    return this.#packs.finish();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#packs[Symbol.asyncDispose]();
    await this.#codecs[Symbol.asyncDispose]();
  }
}
