import {
  putBlockSize,
  putFrameEnd,
  putFrameHeader,
  FRAME_OVERHEAD_BYTES,
  type FrameParts,
} from '@dumont/shared/format/lz4-frame.ts';

/** A frame of any blocks, however little they fit to what it says of them. */
export function joinFrame({ contentLength, contentChecksum, blocks }: FrameParts): Buffer {
  const length = blocks.reduce((sum, { bytes }) => sum + 4 + bytes.length, FRAME_OVERHEAD_BYTES - 4);
  const frame = Buffer.alloc(length);
  let at = putFrameHeader(frame, 0, contentLength);
  for (const { bytes, stored } of blocks) {
    at = putBlockSize(frame, at, { length: bytes.length, stored });
    frame.set(bytes, at);
    at += bytes.length;
  }
  putFrameEnd(frame, at, contentChecksum);
  return frame;
}
