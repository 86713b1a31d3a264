import type { ChunkRow } from '@dumont/shared/format/manifest.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { PlaceTable } from '../catalogue/place-table.ts';
import type { ChunkLocation } from './pack-writer.ts';
import type { KnownChunks } from './write-pipeline.ts';

/** So many chunks no snapshot in memory uses are kept before they are forgotten, a few megabytes. */
const MAX_UNUSED = 50_000;

/** Where the chunks lie that the snapshots in memory refer to, those of file contents and of segments. */
export class ChunkBook implements KnownChunks {
  #places = new PlaceTable(0);
  /** Of differences alone: the chunk each is one to, by its row. */
  #bases = new Map<number, string>();

  get size(): number {
    return this.#places.size;
  }

  has(chunkId: string): boolean {
    return this.#places.has(chunkId);
  }

  ids(): Iterable<string> {
    return this.#places.ids();
  }

  locate(chunkId: string): ChunkLocation | undefined {
    const place = this.#places.locate(chunkId);
    if (place?.codec !== 'delta') return place;
    return { ...place, baseId: this.#bases.get(this.#places.rowOf(chunkId)) };
  }

  add(location: ChunkLocation): void {
    const row = this.#places.set(location);
    if (location.baseId === undefined) this.#bases.delete(row);
    else this.#bases.set(row, location.baseId);
  }

  /** Adds what a table of a manifest lists. A copy that is no difference is preferred: it may be a base. */
  addTable({ packs, chunks }: { readonly packs: readonly string[]; readonly chunks: readonly ChunkRow[] }): void {
    for (const [chunkId, pack, offset, storedLength, rawLength, codec, base] of chunks) {
      const known = this.#places.locate(chunkId);
      if (known !== undefined && (known.codec !== 'delta' || codec === 'delta')) continue;
      const packId = must(packs[pack], 'a checked table lists its packs');
      const baseId = base === undefined ? undefined : must(chunks[base], 'a checked table lists its bases')[0];
      this.add({ chunkId, packId, offset, storedLength, rawLength, codec, baseId });
    }
  }

  /** Forgets what is not used when that has become much. @param used ids, and how many with repetitions */
  trim(used: Iterable<string>, usedCount: number): void {
    if (this.size <= usedCount + MAX_UNUSED) return;
    const kept = new ChunkBook();
    const keep = (chunkId: string) => {
      const at = this.locate(chunkId);
      if (at === undefined || kept.has(chunkId)) return;
      kept.add(at);
      if (at.baseId !== undefined) keep(at.baseId);
    };
    for (const chunkId of used) keep(chunkId);
    this.#places = kept.#places;
    this.#bases = kept.#bases;
  }
}
