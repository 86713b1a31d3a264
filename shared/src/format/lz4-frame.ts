import { assert } from '../util/assert.ts';
import { DumontError } from '../util/errors.ts';
import { xxh32 } from './xxh32.ts';

/**
 * Most raw bytes in one frame: the largest block of the LZ4 frame format, so that one frame is one block and decodes
 * without state.
 */
export const MAX_FRAME_RAW_BYTES = 4 * 1024 * 1024;

/** Bytes a frame adds around its block: header 15, block size 4, end mark 4, content checksum 4. */
export const FRAME_OVERHEAD_BYTES = 27;

const MAGIC = 0x184d2204;
/** Version 01, independent blocks, no block checksum, content size, content checksum, no dictionary. */
const FLAGS = 0x6c;
/** Largest block 4 MiB. */
const BLOCK_DESCRIPTOR = 0x70;
const HEADER_BYTES = 15;
const STORED_BIT = 0x8000_0000;

/** One frame taken apart; `block` is a view into the bytes given. */
export interface ParsedFrame {
  readonly rawLength: number;
  readonly block: Uint8Array;
  /** The block holds the raw bytes themselves. */
  readonly stored: boolean;
  /** Bytes from the frame's magic to its checksum. */
  readonly frameLength: number;
}

/**
 * Frames one block as the LZ4 frame format wants it (spec 1.6.4, github.com/lz4/lz4, doc/lz4_Frame_format.md), with
 * content size and content checksum, so that the `lz4` command verifies it.
 * @param raw 1 to {@link MAX_FRAME_RAW_BYTES} bytes
 * @param block `raw` as an LZ4 block; null, or a block that is not smaller, stores `raw` itself
 */
export function writeFrame(raw: Uint8Array, block: Uint8Array | null): Uint8Array {
  assert(raw.length >= 1 && raw.length <= MAX_FRAME_RAW_BYTES, 'a frame holds 1 byte to 4 MiB');
  const stored = block === null || block.length >= raw.length;
  const body = stored ? raw : block;
  const frame = new Uint8Array(body.length + FRAME_OVERHEAD_BYTES);
  const view = new DataView(frame.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint8(4, FLAGS);
  view.setUint8(5, BLOCK_DESCRIPTOR);
  view.setBigUint64(6, BigInt(raw.length), true);
  view.setUint8(14, headerChecksum(frame));
  view.setUint32(HEADER_BYTES, (body.length | (stored ? STORED_BIT : 0)) >>> 0, true);
  frame.set(body, HEADER_BYTES + 4);
  view.setUint32(frame.length - 8, 0, true);
  view.setUint32(frame.length - 4, xxh32(raw), true);
  return frame;
}

/**
 * Takes the frame at the start of `bytes` apart. Reads only what {@link writeFrame} writes; the content checksum is left
 * to the caller, who compares a 256-bit hash.
 * @throws {DumontError} CORRUPT when it is no such frame or is cut short
 */
export function parseFrame(bytes: Uint8Array): ParsedFrame {
  if (bytes.length < FRAME_OVERHEAD_BYTES) throw corrupt('it is cut short');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(0, true) !== MAGIC) throw corrupt('it has another magic number');
  if (view.getUint8(4) !== FLAGS || view.getUint8(5) !== BLOCK_DESCRIPTOR) throw corrupt('it has another descriptor');
  if (view.getUint8(14) !== headerChecksum(bytes)) throw corrupt('its header checksum is wrong');
  const rawLength = view.getBigUint64(6, true);
  if (rawLength < 1n || rawLength > BigInt(MAX_FRAME_RAW_BYTES)) throw corrupt('its content size is out of range');
  const word = view.getUint32(HEADER_BYTES, true);
  const stored = word >= STORED_BIT;
  const blockLength = stored ? word - STORED_BIT : word;
  const frameLength = blockLength + FRAME_OVERHEAD_BYTES;
  if (frameLength > bytes.length) throw corrupt('its block is cut short');
  if (stored && blockLength !== Number(rawLength)) throw corrupt('its stored block has another size than it says');
  if (view.getUint32(frameLength - 8, true) !== 0) throw corrupt('its end mark is missing');
  const start = HEADER_BYTES + 4;
  return { rawLength: Number(rawLength), block: bytes.subarray(start, start + blockLength), stored, frameLength };
}

/** Second byte of the XXH32 of the descriptor. */
function headerChecksum(frame: Uint8Array): number {
  return (xxh32(frame.subarray(4, 14)) >>> 8) & 0xff;
}

function corrupt(why: string): DumontError {
  return new DumontError('CORRUPT', `not a frame of ours: ${why}`);
}
