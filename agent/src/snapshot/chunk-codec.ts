import { blake3 } from '@napi-rs/blake-hash';
import { MAX_FRAME_RAW_BYTES, onlyBlock, parseFrame, writeFrame } from '@dumont/shared/format/lz4-frame.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { compressBlockAsync, uncompressBlockAsync } from './lz4-block.ts';

/** BLAKE3-256 as 64 hexadecimal digits: the id of a chunk's raw bytes, a pack, a manifest. */
export function hashHex(bytes: Uint8Array): string {
  return blake3(bytes).toString('hex');
}

/** Any bytes as a row of LZ4 frames; what `lz4 -dc` turns back. */
export async function encodeFrames(bytes: Uint8Array): Promise<Uint8Array> {
  const frames: Uint8Array[] = [];
  for (let offset = 0; offset < bytes.length; offset += MAX_FRAME_RAW_BYTES) {
    const part = bytes.subarray(offset, offset + MAX_FRAME_RAW_BYTES);
    frames.push(writeFrame(part, await compressBlockAsync(part)));
  }
  return Buffer.concat(frames);
}

/** Inverse of {@link encodeFrames}. @throws {DumontError} CORRUPT; LIMIT above `maxBytes` of raw bytes */
export async function decodeFrames(bytes: Uint8Array, maxBytes: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let total = 0;
  for (let offset = 0; offset < bytes.length;) {
    const frame = parseFrame(bytes.subarray(offset));
    total += frame.contentLength;
    if (total > maxBytes) throw new DumontError('LIMIT', `the object unpacks to more than ${maxBytes} bytes`);
    const block = onlyBlock(frame);
    parts.push(block.stored ? block.bytes : await uncompressBlockAsync(block.bytes, frame.contentLength));
    offset += frame.frameLength;
  }
  return Buffer.concat(parts);
}
