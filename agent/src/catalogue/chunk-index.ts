import {
  INDEX_ENTRY_BYTES,
  indexEntryAt,
  type IndexedChunk,
  type IndexObject,
} from '@dumont/shared/format/index-object.ts';
import { assert, must } from '@dumont/shared/util/assert.ts';
import { ID_WORDS, PLACE_WORDS, PlaceTable } from './place-table.ts';

/** Most chunks kept: 2 TB at 1 MiB each, in 112 MB of memory. */
export const MAX_INDEXED_CHUNKS = 2_000_000;

/** What index objects tell of where chunks lie, in memory of a size given at the start. */
export class ChunkIndex {
  readonly #capacity: number;
  readonly #places: PlaceTable;

  /** @param capacity most chunks it will hold, at most {@link MAX_INDEXED_CHUNKS} */
  constructor(capacity: number) {
    assert(capacity <= MAX_INDEXED_CHUNKS, 'the index is bounded');
    this.#capacity = capacity;
    this.#places = new PlaceTable(capacity);
  }

  get size(): number {
    return this.#places.size;
  }

  /**
   * Takes over the chunks of an object that lie in the packs it accepts; of a chunk that is there already the first
   * place stays. What exceeds the capacity is left out: a chunk that is not known is stored once more, no worse.
   */
  add(object: IndexObject, acceptsPack: (packId: string) => boolean): void {
    const rows = object.packIds.map((packId) => (acceptsPack(packId) ? this.#places.packRow(packId) : -1));
    const { entries } = object;
    const source = new Uint32Array(new Uint8Array(entries).buffer);
    for (let at = 0; at < source.length && this.size < this.#capacity; at += PLACE_WORDS) {
      const row = must(rows[source[at + ID_WORDS] ?? -1], 'a checked entry has a listed pack');
      if (row !== -1) this.#places.addWords(source, at, row);
    }
  }

  has(chunkId: string): boolean {
    return this.#places.has(chunkId);
  }

  /** Where a chunk lies, as far as was known when it was added. */
  locate(chunkId: string): IndexedChunk | undefined {
    return this.#places.locate(chunkId);
  }

  ids(): Iterable<string> {
    return this.#places.ids();
  }
}

/** Every entry of an object. */
export function* indexEntries(object: IndexObject): Iterable<IndexedChunk> {
  const count = object.entries.length / INDEX_ENTRY_BYTES;
  for (let row = 0; row < count; row += 1) yield indexEntryAt(object, row);
}
