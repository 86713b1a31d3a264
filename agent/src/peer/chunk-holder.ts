import { hashHex } from '../snapshot/chunk-codec.ts';
import { chunkOffsets, readRange } from '../sync/file-content.ts';
import type { SyncTree } from '../sync/sync-tree.ts';

/** A folder and what is known to lie in it; the folder may have changed since. */
export interface HeldFolder {
  readonly root: string;
  tree(): SyncTree;
}

/** Files of which several lie at many places; where the first does not have it any more, the next ones hardly do. */
const MAX_HOLDERS_TRIED = 3;

/** Finds chunks in a folder by their ids. Reads only, and gives nothing that is not what its id says. */
export class ChunkHolder {
  readonly #folder: HeldFolder;
  /** Of the file that a chunk was last taken from: its version, and where its chunks lie. */
  #offsets: {
    readonly holder: string;
    readonly version: string | undefined;
    readonly byId: Map<string, number>;
  } | null = null;

  constructor(folder: HeldFolder) {
    this.#folder = folder;
  }

  /** Whether it was there when the folder was looked at. */
  has(chunkId: string): boolean {
    return this.#folder.tree().hasChunk(chunkId);
  }

  /** Null when it is not there, or not any more. */
  read(chunkId: string, length: number): Buffer | null {
    let tried = 0;
    for (const holder of this.#folder.tree().holders(chunkId)) {
      if ((tried += 1) > MAX_HOLDERS_TRIED) break;
      const offset = this.#offsetIn(holder, chunkId);
      const bytes = offset === undefined ? null : readRange(`${this.#folder.root}/${holder}`, offset, length);
      if (bytes !== null && hashHex(bytes) === chunkId) return bytes;
    }
    return null;
  }

  #offsetIn(holder: string, chunkId: string): number | undefined {
    const tree = this.#folder.tree();
    const version = tree.versionOf(holder);
    if (this.#offsets?.version !== version || this.#offsets?.holder !== holder) {
      const entry = tree.get(holder)?.entry;
      const byId = new Map<string, number>();
      if (entry?.type === 'file') for (const [id, , offset] of chunkOffsets(entry.content)) byId.set(id, offset);
      this.#offsets = { holder, version, byId };
    }
    return this.#offsets.byId.get(chunkId);
  }
}
