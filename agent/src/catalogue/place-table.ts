import { INDEX_ENTRY_BYTES, type IndexedChunk } from '@dumont/shared/format/index-object.ts';
import { CODECS } from '@dumont/shared/format/pack.ts';
import { assert, must } from '@dumont/shared/util/assert.ts';

export const PLACE_WORDS = INDEX_ENTRY_BYTES / 4;
export const ID_WORDS = 8;

const RAW_LENGTH_BITS = 24;
const MIN_CAPACITY = 64;

/**
 * Where chunks lie, 48 bytes each and 4 to 12 for finding them: two typed arrays, so that millions of chunks cost no
 * objects. Ids are hashes already: their first word is where the search begins.
 */
export class PlaceTable {
  /** As entries of index objects, but for the pack's row, which is one of ours. */
  #words: Uint32Array;
  /** Row + 1 by hash, 0 when free; open addressing, at most two thirds full. */
  #slots: Uint32Array;
  readonly #packIds: string[] = [];
  readonly #packRows = new Map<string, number>();
  readonly #wanted = new Uint32Array(PLACE_WORDS);
  #size = 0;

  /** @param capacity chunks there is room for; with more it grows */
  constructor(capacity: number) {
    this.#words = new Uint32Array(Math.max(MIN_CAPACITY, capacity) * PLACE_WORDS);
    this.#slots = slotsFor(this.#words);
  }

  get size(): number {
    return this.#size;
  }

  has(chunkId: string): boolean {
    return this.rowOf(chunkId) !== -1;
  }

  /** Of a chunk, the same as long as the table lives; -1 when it is not here. */
  rowOf(chunkId: string): number {
    return (this.#slots[this.#find(this.#idWords(chunkId), 0)] ?? 0) - 1;
  }

  locate(chunkId: string): IndexedChunk | undefined {
    const row = this.rowOf(chunkId);
    if (row === -1) return undefined;
    const at = row * PLACE_WORDS + ID_WORDS;
    const packed = this.#words[at + 3] ?? 0;
    return {
      chunkId,
      packId: must(this.#packIds[this.#words[at] ?? -1], 'a row names a pack of ours'),
      offset: this.#words[at + 1] ?? 0,
      storedLength: this.#words[at + 2] ?? 0,
      rawLength: packed % 2 ** RAW_LENGTH_BITS,
      codec: must(CODECS[packed >>> RAW_LENGTH_BITS], 'a checked entry has a known codec'),
    };
  }

  *ids(): Iterable<string> {
    for (let row = 0; row < this.#size; row += 1) {
      const at = row * INDEX_ENTRY_BYTES;
      yield Buffer.from(this.#words.buffer, at, ID_WORDS * 4).toString('hex');
    }
  }

  /** Adds a chunk or moves it. @returns its row */
  set({ chunkId, packId, offset, storedLength, rawLength, codec }: IndexedChunk): number {
    assert(rawLength < 2 ** RAW_LENGTH_BITS, 'a chunk is a few megabytes');
    const words = this.#idWords(chunkId);
    const codecWord = CODECS.indexOf(codec) * 2 ** RAW_LENGTH_BITS + rawLength;
    words.set([this.packRow(packId), offset, storedLength, codecWord], ID_WORDS);
    const known = this.rowOf(chunkId);
    if (known === -1) return this.#append(words, 0);
    this.#words.set(words, known * PLACE_WORDS);
    return known;
  }

  /**
   * Adds the entry of {@link PLACE_WORDS} words that begins at `at`, whose pack's row is one of {@link packRow}. A chunk that
   * is here stays where it is.
   */
  addWords(source: Uint32Array, at: number, packRow: number): void {
    if (this.#slots[this.#find(source, at)] !== 0) return;
    const row = this.#append(source, at);
    this.#words[row * PLACE_WORDS + ID_WORDS] = packRow;
  }

  packRow(packId: string): number {
    const known = this.#packRows.get(packId);
    if (known !== undefined) return known;
    this.#packRows.set(packId, this.#packIds.length);
    return this.#packIds.push(packId) - 1;
  }

  #append(source: Uint32Array, at: number): number {
    const row = this.#size;
    if ((row + 1) * PLACE_WORDS > this.#words.length) this.#grow();
    this.#words.set(source.subarray(at, at + PLACE_WORDS), row * PLACE_WORDS);
    this.#slots[this.#find(source, at)] = row + 1;
    this.#size += 1;
    return row;
  }

  #grow(): void {
    const words = new Uint32Array(2 * this.#words.length);
    words.set(this.#words);
    this.#words = words;
    this.#slots = slotsFor(words);
    for (let row = 0; row < this.#size; row += 1) this.#slots[this.#find(words, row * PLACE_WORDS)] = row + 1;
  }

  #idWords(chunkId: string): Uint32Array {
    const bytes = Buffer.from(this.#wanted.buffer, 0, ID_WORDS * 4);
    assert(bytes.write(chunkId, 'hex') === bytes.length, 'a chunk id is 32 bytes');
    return this.#wanted;
  }

  /** The slot of the id at `at`, or the free one where it belongs. */
  #find(words: Uint32Array, at: number): number {
    const mask = this.#slots.length - 1;
    for (let slot = (words[at] ?? 0) & mask; ; slot = (slot + 1) & mask) {
      const row = this.#slots[slot] ?? 0;
      if (row === 0 || this.#isSame((row - 1) * PLACE_WORDS, words, at)) return slot;
    }
  }

  #isSame(own: number, words: Uint32Array, at: number): boolean {
    for (let word = 0; word < ID_WORDS; word += 1) {
      if (this.#words[own + word] !== words[at + word]) return false;
    }
    return true;
  }
}

function slotsFor(words: Uint32Array): Uint32Array {
  return new Uint32Array(2 ** Math.ceil(Math.log2((words.length / PLACE_WORDS) * 1.5)));
}
