import { lstatSync } from 'node:fs';
import type { DraftFile } from './draft.ts';
import { isUntouched, type HeldSnapshot } from './held-snapshot.ts';
import type { ChunkLocation } from './pack-writer.ts';
import type { FileToRead } from './write-pipeline.ts';
import type { PlacedChunk } from './writing/base-file.ts';

/** Smaller files are not worth the second read. */
const MIN_FILE_BYTES = 16 * 1024 * 1024;
/** So many files of the same folder and size are looked at on disk before none is taken. */
const MAX_CANDIDATES = 4;

/**
 * Finds for a large file that changed one it may resemble, such as the checkpoint before it: of the same folder and
 * size, in the parent, and still on disk as it was then.
 */
export class DeltaBases {
  readonly #root: string;
  readonly #parent: HeldSnapshot;
  readonly #locate: (chunkId: string) => ChunkLocation | undefined;
  /** Large files of the parent by folder and size, newest first. */
  #candidates: ReadonlyMap<string, readonly DraftFile[]> | undefined;

  constructor(root: string, parent: HeldSnapshot, locate: (chunkId: string) => ChunkLocation | undefined) {
    this.#root = root;
    this.#parent = parent;
    this.#locate = locate;
  }

  /** @param path relative to the root */
  choose(path: string, sizeBytes: number): FileToRead['base'] {
    if (sizeBytes < MIN_FILE_BYTES) return undefined;
    this.#candidates ??= this.#listCandidates();
    const others = (this.#candidates.get(keyOf(path, sizeBytes)) ?? []).filter((file) => file.path !== path);
    const base = others.slice(0, MAX_CANDIDATES).find((file) => this.#isAsItWas(file.path));
    if (base === undefined) return undefined;
    const chunks = this.#placesIn(base);
    return chunks.length === 0 ? undefined : { path: `${this.#root}/${base.path}`, chunks };
  }

  /** Chunks of a file without holes that others can be the difference to. */
  #placesIn(file: DraftFile): readonly PlacedChunk[] {
    const places: PlacedChunk[] = [];
    let offset = 0;
    for (const id of file.chunkIds) {
      const at = this.#locate(id);
      if (at === undefined) return places;
      // A difference is no base: reading a chunk would then need a chain of others.
      if (at.codec !== 'delta') places.push({ id, offset, length: at.rawLength });
      offset += at.rawLength;
    }
    return places;
  }

  #listCandidates(): ReadonlyMap<string, readonly DraftFile[]> {
    const found = new Map<string, DraftFile[]>();
    for (const { entries } of this.#parent.segments) {
      for (const draft of entries.drafts) {
        if (draft.type !== 'file' || draft.size < MIN_FILE_BYTES || draft.holes !== undefined) continue;
        const key = keyOf(draft.path, draft.size);
        found.set(key, [...(found.get(key) ?? []), draft]);
      }
    }
    for (const files of found.values()) files.sort((a, b) => (BigInt(a.mtimeNs) > BigInt(b.mtimeNs) ? -1 : 1));
    return found;
  }

  #isAsItWas(path: string): boolean {
    const entry = this.#parent.find(path);
    const stats = lstatSync(`${this.#root}/${path}`, { bigint: true, throwIfNoEntry: false });
    return entry !== undefined && stats?.isFile() === true && isUntouched(entry, stats);
  }
}

function keyOf(path: string, sizeBytes: number): string {
  return `${sizeBytes}:${path.slice(0, path.lastIndexOf('/') + 1)}`;
}
