import { readFully, type ByteSource } from '../byte-source.ts';

/** Longest part of a header looked at in one piece: more than the largest models need. */
export const MAX_HEADER_PART_BYTES = 8 * 1024 * 1024;
/** Read at most while looking for tensors in one file; what takes more is cut like any file. */
const MAX_HEADER_BYTES = 64 * 1024 * 1024;
/** Small parts count as this much, so that their number is bounded too. */
const MIN_PART_COST_BYTES = 1024;

/** Reads parts of a file's header, within a budget. */
export class HeaderReader {
  readonly sizeBytes: number;
  readonly #source: ByteSource;
  readonly #scratch: Buffer;
  #budgetBytes = MAX_HEADER_BYTES;

  /** @param scratch {@link MAX_HEADER_PART_BYTES} at least; overwritten by every read */
  constructor(source: ByteSource, scratch: Buffer) {
    this.#source = source;
    this.#scratch = scratch;
    this.sizeBytes = source.sizeBytes;
  }

  /** Exactly these bytes, valid until the next read; null when the file has not got them or the budget is spent. */
  read(offset: number, length: number): Buffer | null {
    if (length > MAX_HEADER_PART_BYTES || !(offset >= 0 && offset + length <= this.sizeBytes)) return null;
    this.#budgetBytes -= Math.max(length, MIN_PART_COST_BYTES);
    if (this.#budgetBytes < 0) return null;
    const part = this.#scratch.subarray(0, length);
    return readFully(this.#source, part, offset) ? part : null;
  }
}

/** A 64-bit length or offset; what does not fit a double becomes Infinity, which no file has. */
export function readLength(bytes: Buffer, at: number): number {
  const value = bytes.readBigUInt64LE(at);
  return value <= Number.MAX_SAFE_INTEGER ? Number(value) : Number.POSITIVE_INFINITY;
}
