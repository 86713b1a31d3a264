import { blake3 } from '@napi-rs/blake-hash';
import { compress, compressSync, uncompress, uncompressSync } from 'lz4-napi';
import { MAX_FRAME_RAW_BYTES, parseFrame, writeFrame } from '@dumont/shared/format/lz4-frame.ts';
import type { Codec } from '@dumont/shared/format/pack.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';

/** Below this a call on this thread is cheaper than a trip through the thread pool. */
const SYNC_BYTES = 64 * 1024;
/** lz4-napi puts the raw length before each block, 4 bytes little-endian. */
const PREFIX_BYTES = 4;

/** BLAKE3-256 as 64 hexadecimal digits: the id of a chunk's raw bytes, a pack, a manifest. */
export function hashHex(bytes: Uint8Array): string {
  return blake3(bytes).toString('hex');
}

/** One chunk as one LZ4 frame. `raw` may be reused when it returns. */
export async function encodeChunk(raw: Uint8Array): Promise<{ readonly frame: Uint8Array; readonly codec: Codec }> {
  const prefixed = raw.length < SYNC_BYTES ? compressSync(asBuffer(raw)) : await compress(raw);
  const block = prefixed.subarray(PREFIX_BYTES);
  return { frame: writeFrame(raw, block), codec: block.length < raw.length ? 'lz4' : 'stored' };
}

/**
 * The raw bytes of a chunk from its frame, checked against its id.
 * @returns possibly a view into `frame`
 * @throws {DumontError} CORRUPT when the frame does not hold exactly this chunk
 */
export async function decodeChunk(frame: Uint8Array, chunkId: string, rawLength: number): Promise<Uint8Array> {
  const raw = await decodeFrame(frame);
  if (raw.bytes.length !== rawLength || raw.frameLength !== frame.length || hashHex(raw.bytes) !== chunkId) {
    throw new DumontError('CORRUPT', `the stored bytes of chunk ${chunkId} are not what the id says`);
  }
  return raw.bytes;
}

/** Any bytes as a row of LZ4 frames; what `lz4 -dc` turns back. */
export async function encodeFrames(bytes: Uint8Array): Promise<Uint8Array> {
  const frames: Uint8Array[] = [];
  for (let offset = 0; offset < bytes.length; offset += MAX_FRAME_RAW_BYTES) {
    frames.push((await encodeChunk(bytes.subarray(offset, offset + MAX_FRAME_RAW_BYTES))).frame);
  }
  return Buffer.concat(frames);
}

/** Inverse of {@link encodeFrames}. @throws {DumontError} CORRUPT; LIMIT above `maxBytes` of raw bytes */
export async function decodeFrames(bytes: Uint8Array, maxBytes: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let total = 0;
  for (let offset = 0; offset < bytes.length;) {
    const raw = await decodeFrame(bytes.subarray(offset));
    total += raw.bytes.length;
    if (total > maxBytes) throw new DumontError('LIMIT', `the object unpacks to more than ${maxBytes} bytes`);
    parts.push(raw.bytes);
    offset += raw.frameLength;
  }
  return Buffer.concat(parts);
}

async function decodeFrame(frame: Uint8Array): Promise<{ readonly bytes: Uint8Array; readonly frameLength: number }> {
  const { rawLength, block, stored, frameLength } = parseFrame(frame);
  if (stored) return { bytes: block, frameLength };
  const prefixed = Buffer.allocUnsafe(PREFIX_BYTES + block.length);
  prefixed.writeUInt32LE(rawLength, 0);
  prefixed.set(block, PREFIX_BYTES);
  try {
    const bytes = rawLength < SYNC_BYTES ? uncompressSync(prefixed) : await uncompress(prefixed);
    if (bytes.length !== rawLength) throw new Error(`it unpacks to ${bytes.length} of ${rawLength} bytes`);
    return { bytes, frameLength };
  } catch (error) {
    throw new DumontError('CORRUPT', 'an LZ4 block does not unpack', { cause: error });
  }
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}
