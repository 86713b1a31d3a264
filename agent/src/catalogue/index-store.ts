import { randomBytes } from 'node:crypto';
import {
  decodeIndexObject,
  encodeIndexObject,
  INDEX_ENTRY_BYTES,
  MAX_INDEX_BYTES,
  MAX_INDEX_ENTRIES,
  MAX_INDEX_PACKS,
  type IndexedChunk,
  type IndexObject,
} from '@dumont/shared/format/index-object.ts';
import { INDEX_PREFIX, indexKey, parseIndexKey } from '@dumont/shared/format/layout.ts';
import type { PackIndexEntry } from '@dumont/shared/format/pack.ts';
import { DumontError, isDumontError } from '@dumont/shared/util/errors.ts';
import { forEachBounded } from '../storage/for-each-bounded.ts';
import type { CallOptions, ObjectInfo, ObjectStore } from '../storage/object-store.ts';
import { ChunkIndex, MAX_INDEXED_CHUNKS } from './chunk-index.ts';

/** Index objects beyond this many are not looked at; a prune merges them long before. */
const MAX_INDEX_OBJECTS = 100_000;
/** Requests at once. */
const MAX_FETCHES = 8;
/** An index object is written for this many packs, 256 MiB: what a writer that is killed may have to upload again. */
const PACKS_PER_OBJECT = 16;

/** A snapshot with fewer packs leaves them to its manifest: one object more per snapshot would cost more than it saves. */
const MIN_PACKS_PER_OBJECT = 4;

export interface LoadIndexOptions extends CallOptions {
  /** False for packs that are gone or about to go: their chunks are left out. */
  readonly acceptsPack: (packId: string) => boolean;
  /** Only objects the store got at or after this time by its own clock; a limit of work, nothing depends on it. */
  readonly sinceMs?: number | undefined;
}

/** The index objects of a store, ascending by key. @throws {DumontError} LIMIT above {@link MAX_INDEX_OBJECTS} */
export async function listIndexObjects(store: ObjectStore, options: CallOptions = {}): Promise<readonly ObjectInfo[]> {
  const found: ObjectInfo[] = [];
  for await (const info of store.list(INDEX_PREFIX, options)) {
    if (parseIndexKey(info.key) === null) continue;
    if (found.length === MAX_INDEX_OBJECTS) {
      throw new DumontError('LIMIT', `the store holds more than ${MAX_INDEX_OBJECTS} index objects`, {
        hint: 'Merge them with: dumont-agent fsck --from <store> --repair',
      });
    }
    found.push(info);
  }
  return found;
}

/**
 * One index object.
 * @returns null when it is gone, because another program has merged it
 * @throws {DumontError} CORRUPT
 */
export async function readIndexObject(
  store: ObjectStore,
  info: ObjectInfo,
  options: CallOptions = {},
): Promise<IndexObject | null> {
  try {
    if (info.sizeBytes > MAX_INDEX_BYTES) throw new DumontError('CORRUPT', 'it is too large for an index object');
    return decodeIndexObject(await store.get(info.key, options));
  } catch (error) {
    if (isDumontError(error, 'NOT_FOUND')) return null;
    if (!isDumontError(error, 'CORRUPT')) throw error;
    throw new DumontError('CORRUPT', `${info.key}: ${error.message}`, { cause: error });
  }
}

/**
 * What index objects tell, newest first and at most {@link MAX_INDEXED_CHUNKS} chunks. Damaged objects are passed over:
 * what they told is stored once more, and fsck reports them.
 */
export async function loadChunkIndex(store: ObjectStore, options: LoadIndexOptions): Promise<ChunkIndex> {
  const { acceptsPack, sinceMs = 0, signal } = options;
  const objects = (await listIndexObjects(store, { signal }))
    .filter(({ modifiedMs }) => modifiedMs >= sinceMs)
    .toSorted((a, b) => b.modifiedMs - a.modifiedMs);
  const upperBound = objects.reduce((sum, { sizeBytes }) => sum + Math.floor(sizeBytes / INDEX_ENTRY_BYTES), 0);
  const index = new ChunkIndex(Math.min(upperBound, MAX_INDEXED_CHUNKS));
  await forEachBounded(objects, MAX_FETCHES, async (info) => {
    if (index.size === MAX_INDEXED_CHUNKS) return;
    try {
      const object = await readIndexObject(store, info, { signal });
      if (object !== null) index.add(object, acceptsPack);
    } catch (error) {
      if (!isDumontError(error, 'CORRUPT')) throw error;
    }
  });
  return index;
}

/** Stores one index object under a fresh id. @returns its id */
export async function writeIndexObject(
  store: ObjectStore,
  content: { readonly packIds: readonly string[]; readonly chunks: readonly IndexedChunk[] },
  options: CallOptions = {},
): Promise<string> {
  const indexId = randomBytes(16).toString('hex');
  const bytes = encodeIndexObject(content.packIds, content.chunks);
  await store.put(indexKey(indexId), bytes, { ifAbsent: true, signal: options.signal });
  return indexId;
}

/**
 * Writes the index of packs as they are stored: an object for every {@link PACKS_PER_OBJECT}, the rest with `finish`.
 * So a writer that is killed finds most of its work again. Dispose it to wait for what is on its way.
 */
export class IndexWriter implements AsyncDisposable {
  readonly #store: ObjectStore;
  readonly #signal: AbortSignal | undefined;
  readonly #cancel = new AbortController();
  #packIds: string[] = [];
  #chunks: IndexedChunk[] = [];
  #writing: Promise<void> = Promise.resolve();
  #failure: { readonly error: unknown } | undefined;
  #written = 0;

  constructor(store: ObjectStore, options: CallOptions = {}) {
    this.#store = store;
    this.#signal = options.signal;
  }

  /** To be called when a pack is stored for good. Never throws; a failure is thrown by {@link finish}. */
  readonly onPackStored = (packId: string, entries: readonly PackIndexEntry[]): void => {
    if (this.#chunks.length + entries.length > MAX_INDEX_ENTRIES) this.#flush();
    this.#packIds.push(packId);
    for (const entry of entries) this.#chunks.push({ ...entry, packId });
    if (this.#packIds.length >= PACKS_PER_OBJECT) this.#flush();
  };

  /** Stores what is left, unless the whole snapshot made only a few packs. @throws what a store threw */
  async finish(): Promise<void> {
    if (this.#written > 0 || this.#packIds.length >= MIN_PACKS_PER_OBJECT) this.#flush();
    await this.#writing;
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#cancel.abort(new DOMException('the snapshot ended', 'AbortError'));
    await this.#writing;
  }

  #flush(): void {
    if (this.#packIds.length === 0) return;
    const content = { packIds: this.#packIds, chunks: this.#chunks };
    this.#packIds = [];
    this.#chunks = [];
    this.#written += 1;
    const signals = this.#signal === undefined ? [this.#cancel.signal] : [this.#cancel.signal, this.#signal];
    this.#writing = this.#writing
      .then(async () => {
        if (this.#failure === undefined)
          await writeIndexObject(this.#store, content, { signal: AbortSignal.any(signals) });
      })
      .catch((error: unknown) => {
        this.#failure ??= { error };
      });
  }
}

/** Collects chunks and writes index objects as full as they may be; several callers may add at once. */
export class IndexPacker {
  readonly #store: ObjectStore;
  readonly #options: CallOptions;
  #packIds: string[] = [];
  #chunks: IndexedChunk[] = [];
  #written = 0;

  constructor(store: ObjectStore, options: CallOptions = {}) {
    this.#store = store;
    this.#options = options;
  }

  /** Objects written so far. */
  get written(): number {
    return this.#written;
  }

  /**
   * Adds packs with chunks of theirs; one call holds no more than an object may, but for a pack with more chunks than
   * that, whose surplus is left out: no writer of ours makes one.
   */
  async add(packIds: readonly string[], chunks: readonly IndexedChunk[]): Promise<void> {
    const indexable = chunks.filter(({ codec }) => codec !== 'delta').slice(0, MAX_INDEX_ENTRIES);
    const isFull =
      this.#chunks.length + indexable.length > MAX_INDEX_ENTRIES ||
      this.#packIds.length + packIds.length > MAX_INDEX_PACKS;
    const flushed = isFull ? this.flush() : undefined;
    this.#packIds.push(...packIds);
    for (const chunk of indexable) this.#chunks.push(chunk);
    await flushed;
  }

  async flush(): Promise<void> {
    if (this.#packIds.length === 0) return;
    const content = { packIds: this.#packIds, chunks: this.#chunks };
    this.#packIds = [];
    this.#chunks = [];
    this.#written += 1;
    await writeIndexObject(this.#store, content, this.#options);
  }
}
