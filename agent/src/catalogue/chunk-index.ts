import {
  INDEX_ENTRY_BYTES,
  indexEntryAt,
  type IndexedChunk,
  type IndexObject,
} from '@dumont/shared/format/index-object.ts';
import { CODECS } from '@dumont/shared/format/pack.ts';
import { assert, must } from '@dumont/shared/util/assert.ts';

/** Most chunks kept: 2 TB at 1 MiB each, in 112 MB of memory. */
export const MAX_INDEXED_CHUNKS = 2_000_000;

const WORDS = INDEX_ENTRY_BYTES / 4;
const ID_WORDS = 8;
const RAW_LENGTH_BITS = 24;

/**
 * Where chunks lie, 48 bytes each and 4 to 8 for finding them: two typed arrays of a size given at the start, so that
 * millions of chunks cost no objects. Ids are hashes already: their first word is where the search begins.
 */
export class ChunkIndex {
  readonly #capacity: number;
  /** As entries of index objects, but for the pack's row, which is one of ours. */
  readonly #words: Uint32Array;
  /** Row + 1 by hash, 0 when free; open addressing, at most two thirds full. */
  readonly #slots: Uint32Array;
  readonly #packIds: string[] = [];
  readonly #packRows = new Map<string, number>();
  #size = 0;

  /** @param capacity most chunks it will hold, at most {@link MAX_INDEXED_CHUNKS} */
  constructor(capacity: number) {
    assert(capacity <= MAX_INDEXED_CHUNKS, 'the index is bounded');
    this.#capacity = capacity;
    this.#words = new Uint32Array(capacity * WORDS);
    this.#slots = new Uint32Array(2 ** Math.ceil(Math.log2(Math.max(8, capacity * 1.5))));
  }

  get size(): number {
    return this.#size;
  }

  /**
   * Takes over the chunks of an object that lie in the packs it accepts; of a chunk that is there already the first
   * place stays. What exceeds the capacity is left out: a chunk that is not known is stored once more, no worse.
   */
  add(object: IndexObject, acceptsPack: (packId: string) => boolean): void {
    const rows = object.packIds.map((packId) => (acceptsPack(packId) ? this.#packRow(packId) : -1));
    const { entries } = object;
    const source = new Uint32Array(new Uint8Array(entries).buffer);
    for (let at = 0; at < source.length && this.#size < this.#capacity; at += WORDS) {
      const row = must(rows[source[at + ID_WORDS] ?? -1], 'a checked entry has a listed pack');
      if (row === -1) continue;
      const slot = this.#find(source, at);
      if (this.#slots[slot] !== 0) continue;
      const to = this.#size * WORDS;
      this.#words.set(source.subarray(at, at + WORDS), to);
      this.#words[to + ID_WORDS] = row;
      this.#size += 1;
      this.#slots[slot] = this.#size;
    }
  }

  has(chunkId: string): boolean {
    return this.#rowOf(chunkId) !== -1;
  }

  /** Where a chunk lies, as far as was known when it was added. */
  locate(chunkId: string): IndexedChunk | undefined {
    const row = this.#rowOf(chunkId);
    if (row === -1) return undefined;
    const at = row * WORDS;
    const packed = this.#words[at + ID_WORDS + 3] ?? 0;
    return {
      chunkId,
      packId: must(this.#packIds[this.#words[at + ID_WORDS] ?? -1], 'a row names a pack of ours'),
      offset: this.#words[at + ID_WORDS + 1] ?? 0,
      storedLength: this.#words[at + ID_WORDS + 2] ?? 0,
      rawLength: packed % 2 ** RAW_LENGTH_BITS,
      codec: must(CODECS[packed >>> RAW_LENGTH_BITS], 'a checked entry has a known codec'),
    };
  }

  *ids(): Iterable<string> {
    const bytes = Buffer.from(this.#words.buffer);
    for (let row = 0; row < this.#size; row += 1) {
      const at = row * INDEX_ENTRY_BYTES;
      yield bytes.toString('hex', at, at + ID_WORDS * 4);
    }
  }

  #rowOf(chunkId: string): number {
    const bytes = new Uint8Array(ID_WORDS * 4);
    assert(Buffer.from(bytes.buffer).write(chunkId, 'hex') === bytes.length, 'a chunk id is 32 bytes');
    return (this.#slots[this.#find(new Uint32Array(bytes.buffer), 0)] ?? 0) - 1;
  }

  /** The slot of the id at `at`, or the free one where it belongs. */
  #find(words: Uint32Array, at: number): number {
    const mask = this.#slots.length - 1;
    for (let slot = (words[at] ?? 0) & mask; ; slot = (slot + 1) & mask) {
      const row = this.#slots[slot] ?? 0;
      if (row === 0 || this.#isSame((row - 1) * WORDS, words, at)) return slot;
    }
  }

  #isSame(own: number, words: Uint32Array, at: number): boolean {
    for (let word = 0; word < ID_WORDS; word += 1) {
      if (this.#words[own + word] !== words[at + word]) return false;
    }
    return true;
  }

  #packRow(packId: string): number {
    const known = this.#packRows.get(packId);
    if (known !== undefined) return known;
    this.#packRows.set(packId, this.#packIds.length);
    return this.#packIds.push(packId) - 1;
  }
}

/** Every entry of an object. */
export function* indexEntries(object: IndexObject): Iterable<IndexedChunk> {
  const count = object.entries.length / INDEX_ENTRY_BYTES;
  for (let row = 0; row < count; row += 1) yield indexEntryAt(object, row);
}
