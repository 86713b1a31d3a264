import { assert } from '../util/assert.ts';
import { DumontError } from '../util/errors.ts';

/** Bytes before the Zstandard frame: they make it a skippable frame of the LZ4 format. */
export const ZSTD_WRAP_BYTES = 8;

const SKIPPABLE_MAGIC = 0x184d2a51;
const ZSTD_MAGIC = 0xfd2fb528;

/**
 * Window a Zstandard frame may ask for, as a power of two: 8 MiB, the least that holds the content of the largest
 * chunk, which is 8 bytes more than 4 MiB. A decoder gives it to the library, so that a header cannot make it allocate more.
 */
export const ZSTD_MAX_WINDOW_LOG = 23;

/** What comes before a Zstandard frame of that many bytes. */
export function zstdWrap(zstdLength: number): Uint8Array {
  assert(zstdLength >= 1 && zstdLength <= 0xffff_ffff, 'the length is a u32');
  const wrap = Buffer.allocUnsafe(ZSTD_WRAP_BYTES);
  wrap.writeUInt32LE(SKIPPABLE_MAGIC, 0);
  wrap.writeUInt32LE(zstdLength, 4);
  return wrap;
}

/**
 * The Zstandard frame in a stored frame, a view. What it unpacks to is the caller's to bound and to check.
 * @throws {DumontError} CORRUPT when it is no such frame or anything follows it
 */
export function parseZstdWrap(frame: Uint8Array): Uint8Array {
  const bytes = Buffer.from(frame.buffer, frame.byteOffset, frame.length);
  if (bytes.length < ZSTD_WRAP_BYTES + 4 || bytes.readUInt32LE(0) !== SKIPPABLE_MAGIC) {
    throw corrupt('it has another magic number');
  }
  if (bytes.readUInt32LE(4) !== bytes.length - ZSTD_WRAP_BYTES) throw corrupt('it has another length than it says');
  if (bytes.readUInt32LE(ZSTD_WRAP_BYTES) !== ZSTD_MAGIC) throw corrupt('it holds no Zstandard frame');
  return bytes.subarray(ZSTD_WRAP_BYTES);
}

function corrupt(why: string): DumontError {
  return new DumontError('CORRUPT', `not a Zstandard frame of ours: ${why}`);
}
