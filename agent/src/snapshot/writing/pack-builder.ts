import { randomBytes } from 'node:crypto';
import { encodePackIndex, PACK_TARGET_BYTES, type PackIndexEntry } from '@dumont/shared/format/pack.ts';
import { assert } from '@dumont/shared/util/assert.ts';
import type { ChunkLocation } from '../pack-writer.ts';
import { maxFrameBytes, type ChunkCoder, type ChunkHint } from '../planes/chunk-coder.ts';

/** Of every pack buffer: the target, and room for the index and the overhead of frames that hold exactly the target. */
export const PACK_BUFFER_BYTES = PACK_TARGET_BYTES + 256 * 1024;

/** Upper bounds of what encodePackIndex adds. */
const INDEX_BYTES = 24;
const INDEX_ENTRY_BYTES = 48;

/** A pack as it is stored: the first `length` bytes of the buffer. */
export interface FullPack {
  readonly packId: string;
  readonly buffer: ArrayBuffer;
  readonly length: number;
  readonly entries: readonly PackIndexEntry[];
}

/** Fills a buffer with frames and closes it with their index. */
export class PackBuilder {
  /** Drawn before the pack is filled, so that a chunk's place is known at once: 128 random bits, no id ever comes back. */
  readonly #packId = randomBytes(16).toString('hex');
  readonly #bytes: Buffer;
  readonly #buffer: ArrayBuffer;
  readonly #entries: PackIndexEntry[] = [];
  #length = 0;

  /** @param buffer {@link PACK_BUFFER_BYTES}; its content is overwritten */
  constructor(buffer: ArrayBuffer) {
    assert(buffer.byteLength === PACK_BUFFER_BYTES, 'all pack buffers have one length');
    this.#buffer = buffer;
    this.#bytes = Buffer.from(buffer);
  }

  /** True when any frame of a chunk of that length and the index still have room; always true for the first one. */
  fits(rawLength: number): boolean {
    const indexLength = INDEX_BYTES + (this.#entries.length + 1) * INDEX_ENTRY_BYTES;
    return this.#length + maxFrameBytes(rawLength) + indexLength <= PACK_BUFFER_BYTES;
  }

  /** Encodes a chunk that {@link fits} to where it will lie. */
  add(
    chunk: { readonly chunkId: string; readonly raw: Uint8Array },
    coder: ChunkCoder,
    hint: ChunkHint,
  ): ChunkLocation {
    const { chunkId, raw } = chunk;
    assert(this.fits(raw.length), 'a chunk is added where it fits');
    const offset = this.#length;
    const { length: storedLength, codec } = coder.encodeInto(raw, hint, this.#bytes, offset);
    const entry = { chunkId, offset, storedLength, rawLength: raw.length, codec };
    this.#entries.push(entry);
    this.#length += storedLength;
    return { ...entry, packId: this.#packId };
  }

  /** Adds the index; the builder is not used again. */
  close(): FullPack {
    const index = encodePackIndex(this.#entries, this.#length);
    this.#bytes.set(index, this.#length);
    const length = this.#length + index.length;
    return { packId: this.#packId, buffer: this.#buffer, length, entries: this.#entries };
  }
}
