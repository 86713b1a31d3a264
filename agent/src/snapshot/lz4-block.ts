import { compress, compressSync, uncompress, uncompressSync } from 'lz4-napi';
import { DumontError } from '@dumont/shared/util/errors.ts';

/** lz4-napi puts the raw length before each block, 4 bytes little-endian. */
const PREFIX_BYTES = 4;

/** Bytes as one LZ4 block, possibly longer than they are. */
export function compressBlock(bytes: Uint8Array): Uint8Array {
  return compressSync(asBuffer(bytes)).subarray(PREFIX_BYTES);
}

/** {@link compressBlock} on the thread pool of the process. */
export async function compressBlockAsync(bytes: Uint8Array): Promise<Uint8Array> {
  return (await compress(bytes)).subarray(PREFIX_BYTES);
}

/** Inverse of {@link compressBlock}. @throws {DumontError} CORRUPT unless exactly `rawLength` bytes come out */
export function uncompressBlock(block: Uint8Array, rawLength: number): Uint8Array {
  try {
    return checkLength(uncompressSync(withPrefix(block, rawLength)), rawLength);
  } catch (error) {
    throw corrupt(error);
  }
}

/** {@link uncompressBlock} on the thread pool of the process. */
export async function uncompressBlockAsync(block: Uint8Array, rawLength: number): Promise<Uint8Array> {
  try {
    return checkLength(await uncompress(withPrefix(block, rawLength)), rawLength);
  } catch (error) {
    throw corrupt(error);
  }
}

/** Its buffer is allocated by this length: the caller has bounded it. */
function withPrefix(block: Uint8Array, rawLength: number): Buffer {
  const prefixed = Buffer.allocUnsafe(PREFIX_BYTES + block.length);
  prefixed.writeUInt32LE(rawLength, 0);
  prefixed.set(block, PREFIX_BYTES);
  return prefixed;
}

function checkLength(bytes: Uint8Array, rawLength: number): Uint8Array {
  if (bytes.length !== rawLength) throw new Error(`it unpacks to ${bytes.length} of ${rawLength} bytes`);
  return bytes;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

function corrupt(cause: unknown): DumontError {
  return new DumontError('CORRUPT', 'an LZ4 block does not unpack', { cause });
}
