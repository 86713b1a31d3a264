import type { Entry, FileEntry, Manifest } from '@dumont/shared/format/manifest.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { ChunkLocation } from './pack-writer.ts';

/** A manifest in memory with the look-ups the next snapshot needs. */
export class LoadedManifest {
  readonly manifest: Manifest;
  /** Its chunk table by chunk id. */
  readonly locations: ReadonlyMap<string, ChunkLocation>;
  readonly #byPath: ReadonlyMap<string, Entry>;

  constructor(manifest: Manifest) {
    this.manifest = manifest;
    this.#byPath = new Map(manifest.entries.map((entry) => [entry.path, entry]));
    const locations = new Map<string, ChunkLocation>();
    for (const [chunkId, pack, offset, storedLength, rawLength, codec] of manifest.chunks) {
      const packId = must(manifest.packs[pack], 'a checked manifest names listed packs only');
      locations.set(chunkId, { chunkId, packId, offset, storedLength, rawLength, codec });
    }
    this.locations = locations;
  }

  entry(path: string): Entry | undefined {
    return this.#byPath.get(path);
  }

  /** The file at a path, hard links resolved. */
  file(path: string): FileEntry | undefined {
    const entry = this.#byPath.get(path);
    const file = entry?.type === 'hardlink' ? this.#byPath.get(entry.target) : entry;
    return file?.type === 'file' ? file : undefined;
  }

  chunkIds(file: FileEntry): readonly string[] {
    return file.chunks.map((row) => must(this.manifest.chunks[row], 'a checked manifest uses listed chunks only')[0]);
  }
}
