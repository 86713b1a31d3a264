import { assert } from '@dumont/shared/util/assert.ts';
import { readFully, type ByteSource } from './byte-source.ts';
import { MAX_CHUNK_BYTES, MIN_CHUNK_BYTES, type CutWindow } from './cdc/cut-window.ts';
import type { ElementBytes } from './tensor/tensor-span.ts';

/**
 * Read before a cut is looked for, then again and again until there is one. Most chunks take one or two reads, and little
 * of the next one comes along, which is moved to the window's start: so a file streams through the same one or two MiB,
 * which stay in a cache.
 */
const FIRST_READ_BYTES = 1024 * 1024;
const NEXT_READ_BYTES = 256 * 1024;

/** A part of a file and how it is cut: where its content says, or every {@link MAX_CHUNK_BYTES}. */
export interface Segment {
  readonly offset: number;
  readonly length: number;
  readonly cut: 'content' | 'fixed';
  /** Known when the segment is an array of numbers of that many bytes each. */
  readonly elementBytes?: ElementBytes | undefined;
}

export interface ChunkRange {
  readonly offset: number;
  readonly length: number;
  /** The chunk is an array of numbers of that many bytes, from its first byte on: a hint for its codec. */
  readonly elementBytes?: ElementBytes | undefined;
}

export interface Chunk extends ChunkRange {
  /** Valid until the next chunk is asked for. */
  readonly raw: Buffer;
}

/**
 * Reads a source once and cuts it. The same bytes and segments give the same chunks, however the reads are answered.
 * Ends early, with the last whole chunk, when the source does.
 * @param segments of the source, ascending and apart or next to each other; what lies between them is not read
 * @param window overwritten; nobody else may use it meanwhile
 */
export function* cutChunks(source: ByteSource, segments: Iterable<Segment>, window: CutWindow): Generator<Chunk> {
  const feed = new Feed(source, window);
  for (const { offset, length, cut, elementBytes } of segments) {
    feed.skipTo(offset);
    const end = offset + length;
    while (feed.offset < end) {
      const limit = Math.min(MAX_CHUNK_BYTES, end - feed.offset);
      const chunkLength = cut === 'fixed' ? feed.holdBytes(limit) : feed.holdCut(limit);
      if (chunkLength === 0) return;
      yield { offset: feed.offset, length: chunkLength, elementBytes, raw: feed.take(chunkLength) };
    }
  }
}

/** Streams a source through a window; the bytes of the chunk being cut are always in it and in one piece. */
class Feed {
  readonly #source: ByteSource;
  readonly #window: CutWindow;
  /** File offset of the chunk being cut. */
  #offset = 0;
  /** Where it begins in the window, and where the bytes read so far end. */
  #start = 0;
  #filled = 0;

  constructor(source: ByteSource, window: CutWindow) {
    this.#source = source;
    this.#window = window;
  }

  get offset(): number {
    return this.#offset;
  }

  /** Goes forward to where the next chunk begins. */
  skipTo(offset: number): void {
    assert(offset >= this.#offset, 'segments follow each other');
    this.#start = Math.min(this.#filled, this.#start + offset - this.#offset);
    this.#offset = offset;
  }

  /** `length` when that many bytes are in the window, 0 when the source ends before. */
  holdBytes(length: number): number {
    const missing = length - (this.#filled - this.#start);
    return missing <= 0 || this.#readMore(missing) ? length : 0;
  }

  /** Length of the next chunk by its content, at most `limit`; 0 when the source ends before. */
  holdCut(limit: number): number {
    if (limit <= MIN_CHUNK_BYTES) return this.holdBytes(limit);
    for (let scanned = 0; ;) {
      const available = Math.min(limit, this.#filled - this.#start);
      const start = this.#start;
      const cut = this.#window.findCut(start, start + scanned, start + available);
      if (cut !== null) return cut - start;
      if (available === limit) return limit;
      scanned = available;
      const missing = Math.max(NEXT_READ_BYTES, FIRST_READ_BYTES - available);
      if (!this.#readMore(missing)) return 0;
    }
  }

  /** Ends the chunk. @returns its bytes, valid until the next call */
  take(length: number): Buffer {
    const raw = this.#window.bytes.subarray(this.#start, this.#start + length);
    this.#start += length;
    this.#offset += length;
    return raw;
  }

  /** Reads up to `length` more bytes. False when the source ends before all it promised is read. */
  #readMore(length: number): boolean {
    const { bytes } = this.#window;
    const held = this.#filled - this.#start;
    const wanted = Math.min(length, this.#source.sizeBytes - this.#offset - held);
    if (this.#start > 0) bytes.copyWithin(0, this.#start, this.#filled);
    this.#start = 0;
    this.#filled = held + wanted;
    return readFully(this.#source, bytes.subarray(held, this.#filled), this.#offset + held);
  }
}
