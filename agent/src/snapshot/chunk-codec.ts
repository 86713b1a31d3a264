import { blake3 } from '@napi-rs/blake-hash';
import { MAX_FRAME_RAW_BYTES, onlyBlock, parseFrame } from '@dumont/shared/format/lz4-frame.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { CodecKernel } from './planes/codec-kernel.ts';
import { FrameBuilder } from './planes/frame-builder.ts';

/** BLAKE3-256 as 64 hexadecimal digits: the id of a chunk's raw bytes, or the hash of a manifest. */
export function hashHex(bytes: Uint8Array): string {
  return blake3(bytes).toString('hex');
}

/** One for all calls on a thread: they are synchronous, and a kernel is 14 MiB of address space and a compilation. */
let kernelOfThread: CodecKernel | undefined;

function sharedKernel(): CodecKernel {
  kernelOfThread ??= new CodecKernel();
  return kernelOfThread;
}

/** Any bytes as a row of LZ4 frames; what `lz4 -dc` turns back. */
export function encodeFrames(bytes: Uint8Array): Uint8Array {
  const kernel = sharedKernel();
  const frames: Uint8Array[] = [];
  for (let offset = 0; offset < bytes.length; offset += MAX_FRAME_RAW_BYTES) {
    const part = kernel.load(bytes.subarray(offset, offset + MAX_FRAME_RAW_BYTES));
    const builder = new FrameBuilder(kernel, part.length);
    builder.addPacked(part);
    frames.push(Buffer.concat(builder.finish(kernel.xxh32(part))));
  }
  return Buffer.concat(frames);
}

/** Inverse of {@link encodeFrames}. @throws {DumontError} CORRUPT; LIMIT above `maxBytes` of raw bytes */
export function decodeFrames(bytes: Uint8Array, maxBytes: number): Uint8Array {
  const kernel = sharedKernel();
  const parts: Uint8Array[] = [];
  let total = 0;
  for (let offset = 0; offset < bytes.length;) {
    const frame = parseFrame(bytes.subarray(offset));
    const { contentLength, frameLength } = frame;
    total += contentLength;
    if (total > maxBytes) throw new DumontError('LIMIT', `the object unpacks to more than ${maxBytes} bytes`);
    if (contentLength > MAX_FRAME_RAW_BYTES) throw new DumontError('CORRUPT', 'a frame unpacks to more than 4 MiB');
    const block = onlyBlock(frame);
    parts.push(block.stored ? block.bytes : unpack(block.bytes, contentLength, kernel));
    offset += frameLength;
  }
  return Buffer.concat(parts);
}

function unpack(block: Uint8Array, rawLength: number, kernel: CodecKernel): Uint8Array {
  const raw = kernel.raw(rawLength);
  if (!kernel.unpackBlock(block, raw)) throw new DumontError('CORRUPT', 'an LZ4 block does not unpack');
  return Buffer.from(raw);
}
