import { lstatSync, type BigIntStats } from 'node:fs';
import type { FileEntry, Manifest } from '@dumont/shared/format/manifest.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { hashHex } from '../snapshot/chunk-codec.ts';

interface Remembered {
  /** Hash of everything the entry says, its chunks by id. */
  readonly entryHash: string;
  readonly state: string;
}

/**
 * What the last restore into a folder left there, so that the next one need not read files again that neither snapshot nor
 * disk has changed since. Only saves work: a file whose size, times or inode moved is compared byte for byte.
 */
export class RestoreMemory {
  #files = new Map<string, Remembered>();

  /** True when the file on disk is untouched since a restore made or kept it for an equal entry. */
  isUnchanged(entry: FileEntry, manifest: Manifest, stats: BigIntStats): boolean {
    const known = this.#files.get(entry.path);
    return known?.state === stateOf(stats) && known.entryHash === hashEntry(entry, manifest);
  }

  /** Takes the folder as it is now for what the entries say; to be called when a restore has just ended. */
  remember(root: string, files: readonly FileEntry[], manifest: Manifest): void {
    const next = new Map<string, Remembered>();
    for (const entry of files) {
      const stats = lstatSync(`${root}/${entry.path}`, { bigint: true, throwIfNoEntry: false });
      if (stats === undefined) continue;
      next.set(entry.path, { entryHash: hashEntry(entry, manifest), state: stateOf(stats) });
    }
    this.#files = next;
  }

  /** For a restore that failed: nothing is certain any more. */
  forget(): void {
    this.#files = new Map();
  }
}

function stateOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`;
}

function hashEntry(entry: FileEntry, manifest: Manifest): string {
  const chunks = entry.chunks.map((row) => must(manifest.chunks[row], 'a checked manifest uses listed chunks only')[0]);
  return hashHex(new TextEncoder().encode(JSON.stringify({ ...entry, chunks })));
}
