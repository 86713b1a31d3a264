import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { must } from '@dumont/shared/util/assert.ts';
import type { DraftEntry } from './draft.ts';

/**
 * The entries of a segment: objects while a snapshot works with them, a compressed block outside the heap while none
 * does. A file takes 60 bytes then, instead of 600. Immutable but for that, and shared between snapshots.
 */
export class HeldEntries {
  /** At least one. */
  readonly length: number;
  readonly firstPath: string;
  #drafts: readonly DraftEntry[] | null;
  #packed: Uint8Array | null = null;

  /** @param drafts ascending by path, at least one */
  constructor(drafts: readonly DraftEntry[]) {
    this.length = drafts.length;
    this.firstPath = must(drafts[0], 'a segment is not empty').path;
    this.#drafts = drafts;
  }

  /** Ascending by path; the very same objects at every call until {@link rest}. */
  get drafts(): readonly DraftEntry[] {
    this.#drafts ??= unpack(must(this.#packed, 'what has no objects is packed'));
    return this.#drafts;
  }

  /** Lets the objects go; the next look makes others that say the same. */
  rest(): void {
    if (this.#drafts === null) return;
    this.#packed ??= pack(this.#drafts);
    this.#drafts = null;
  }
}

/** Drafts are plain values that JSON gives back as they were. */
function pack(drafts: readonly DraftEntry[]): Uint8Array {
  const packed = zstdCompressSync(JSON.stringify(drafts));
  // Of its own, exactly as long: what zlib returns may be part of a larger buffer.
  return Uint8Array.from(packed);
}

function unpack(packed: Uint8Array): readonly DraftEntry[] {
  return JSON.parse(zstdDecompressSync(packed).toString('utf8')) as DraftEntry[];
}
