import type { ChunkIndex } from '../catalogue/chunk-index.ts';
import type { LoadedManifest } from './loaded-manifest.ts';
import type { ChunkLocation } from './pack-writer.ts';
import type { KnownChunks } from './write-pipeline.ts';

/** Chunks the store holds, as manifests in memory and index objects tell, but for those in packs to avoid. */
export class KnownLocations implements KnownChunks {
  readonly #manifests: readonly LoadedManifest[];
  readonly #index: ChunkIndex | null;
  readonly #avoid: ReadonlySet<string>;

  constructor(manifests: readonly LoadedManifest[], index: ChunkIndex | null, avoid: ReadonlySet<string>) {
    this.#manifests = manifests;
    this.#index = index;
    this.#avoid = avoid;
  }

  /** At least the number of ids. */
  get size(): number {
    return this.#manifests.reduce((sum, one) => sum + one.locations.size, this.#index?.size ?? 0);
  }

  has(chunkId: string): boolean {
    return this.#sound(chunkId) !== undefined;
  }

  *ids(): Iterable<string> {
    for (const { locations } of this.#manifests) {
      for (const [chunkId, { packId }] of locations) if (!this.#avoid.has(packId)) yield chunkId;
    }
    if (this.#index !== null) yield* this.#index.ids();
  }

  /** Where a chunk lies; in a pack to avoid only if there is no other place, as for a file that cannot be read again. */
  locate(chunkId: string): ChunkLocation | undefined {
    return this.#sound(chunkId) ?? this.#inManifests(chunkId, () => true);
  }

  #sound(chunkId: string): ChunkLocation | undefined {
    return this.#inManifests(chunkId, ({ packId }) => !this.#avoid.has(packId)) ?? this.#index?.locate(chunkId);
  }

  #inManifests(chunkId: string, accepts: (at: ChunkLocation) => boolean): ChunkLocation | undefined {
    for (const { locations } of this.#manifests) {
      const at = locations.get(chunkId);
      if (at !== undefined && accepts(at)) return at;
    }
    return undefined;
  }
}
