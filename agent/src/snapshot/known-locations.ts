import type { ChunkIndex } from '../catalogue/chunk-index.ts';
import type { ChunkBook } from './chunk-book.ts';
import type { HeldSegment } from './held-snapshot.ts';
import type { ChunkLocation } from './pack-writer.ts';
import type { KnownChunks } from './write-pipeline.ts';

/** Chunks the store holds, as the snapshots in memory and index objects tell, but for those in packs to avoid. */
export class KnownLocations implements KnownChunks {
  readonly #book: ChunkBook;
  readonly #index: ChunkIndex | null;
  readonly #avoid: ReadonlySet<string>;

  constructor(book: ChunkBook, index: ChunkIndex | null, avoid: ReadonlySet<string>) {
    this.#book = book;
    this.#index = index;
    this.#avoid = avoid;
  }

  /** At least the number of ids. */
  get size(): number {
    return this.#book.size + (this.#index?.size ?? 0);
  }

  has(chunkId: string): boolean {
    return this.#sound(chunkId) !== undefined;
  }

  *ids(): Iterable<string> {
    for (const chunkId of this.#book.ids()) if (this.#isSoundIn(this.#book.locate(chunkId))) yield chunkId;
    if (this.#index === null) return;
    for (const chunkId of this.#index.ids())
      if (!this.#avoid.has(this.#index.locate(chunkId)?.packId ?? '')) yield chunkId;
  }

  /** Where a chunk lies; in a pack to avoid only if there is no other place, as for a file that cannot be read again. */
  locate(chunkId: string): ChunkLocation | undefined {
    return this.#sound(chunkId) ?? this.#book.locate(chunkId);
  }

  /** The segments, those to be stored again that lie in a pack to avoid or name one. */
  soundOnly(segments: readonly HeldSegment[]): readonly HeldSegment[] {
    if (this.#avoid.size === 0) return segments;
    return segments.map((segment) => (this.#isSound(segment) ? segment : withoutPlace(segment)));
  }

  #isSound({ stored }: HeldSegment): boolean {
    if (stored === null) return true;
    return stored.chunkIds.every((id) => this.has(id)) && !stored.packs.some((packId) => this.#avoid.has(packId));
  }

  #sound(chunkId: string): ChunkLocation | undefined {
    const at = this.#book.locate(chunkId);
    if (this.#isSoundIn(at)) return at;
    const indexed = this.#index?.locate(chunkId);
    return indexed === undefined || this.#avoid.has(indexed.packId) ? undefined : indexed;
  }

  /** A difference is as good as its base. */
  #isSoundIn(at: ChunkLocation | undefined): boolean {
    if (at === undefined || this.#avoid.has(at.packId)) return false;
    return at.baseId === undefined || this.#sound(at.baseId) !== undefined;
  }
}

function withoutPlace(segment: HeldSegment): HeldSegment {
  return { ...segment, stored: null };
}
