import { assert } from '../util/assert.ts';
import { DumontError } from '../util/errors.ts';
import { MAX_PLANES_BLOCKS, PLANES_HEADER_BYTES } from './planes.ts';
import { xxh32 } from './xxh32.ts';

/** Most raw bytes of a chunk: the largest block of the LZ4 frame format, so that a chunk not in planes is one block. */
export const MAX_FRAME_RAW_BYTES = 4 * 1024 * 1024;

/** Most bytes a frame unpacks to: a chunk in planes has their header before it. */
const MAX_FRAME_CONTENT_BYTES = MAX_FRAME_RAW_BYTES + PLANES_HEADER_BYTES;

/** Bytes a frame of one block adds around it: header 15, block size 4, end mark 4, content checksum 4. */
export const FRAME_OVERHEAD_BYTES = 27;

const MAGIC = 0x184d2204;
/** Version 01, independent blocks, no block checksum, content size, content checksum, no dictionary. */
const FLAGS = 0x6c;
/** Largest block 4 MiB. */
const BLOCK_DESCRIPTOR = 0x70;
const FRAME_HEADER_BYTES = 15;
const BLOCK_SIZE_BYTES = 4;
/** End mark and content checksum. */
const FOOTER_BYTES = 8;
const STORED_BIT = 0x8000_0000;

/** One block of a frame. */
export interface FrameBlock {
  readonly bytes: Uint8Array;
  /** It holds the raw bytes themselves, not an LZ4 block. */
  readonly stored: boolean;
}

/** What goes into a frame. */
export interface FrameParts {
  /** Bytes all blocks unpack to. */
  readonly contentLength: number;
  /** XXH32 of what all blocks unpack to. */
  readonly contentChecksum: number;
  /** 1 to {@link MAX_PLANES_BLOCKS}; none is empty. */
  readonly blocks: readonly FrameBlock[];
}

/** One frame taken apart; `blocks` are views into the bytes given. */
export interface ParsedFrame extends FrameParts {
  /** Bytes from the frame's magic to its checksum. */
  readonly frameLength: number;
}

/**
 * Writes what comes before the first block, as the LZ4 frame format wants it (spec 1.6.4, github.com/lz4/lz4,
 * doc/lz4_Frame_format.md), with content size and content checksum, so that the `lz4` command verifies it.
 * @returns where the first block's size goes
 */
export function putFrameHeader(target: Buffer, at: number, contentLength: number): number {
  assert(contentLength >= 1 && contentLength <= MAX_FRAME_CONTENT_BYTES, 'a frame holds 1 byte to 4 MiB and a header');
  target.writeUInt32LE(MAGIC, at);
  target.writeUInt8(FLAGS, at + 4);
  target.writeUInt8(BLOCK_DESCRIPTOR, at + 5);
  target.writeUInt32LE(contentLength, at + 6);
  target.writeUInt32LE(0, at + 10);
  return target.writeUInt8(headerChecksum(target.subarray(at)), at + 14);
}

/** Writes what comes before a block. @returns where the block goes */
export function putBlockSize(target: Buffer, at: number, block: { readonly length: number; readonly stored: boolean }) {
  assert(block.length >= 1 && block.length <= MAX_FRAME_RAW_BYTES, 'a block holds 1 byte to 4 MiB');
  return target.writeUInt32LE(block.stored ? block.length + STORED_BIT : block.length, at);
}

/** Writes what comes after the last block. @returns where the frame ends */
export function putFrameEnd(target: Buffer, at: number, contentChecksum: number): number {
  return target.writeUInt32LE(contentChecksum, target.writeUInt32LE(0, at));
}

/**
 * Takes the frame at the start of `bytes` apart. Reads only the options {@link putFrameHeader} writes; the content checksum is left
 * to the caller, who compares a 256-bit hash, and so is what a block unpacks to.
 * @throws {DumontError} CORRUPT when it is no such frame or is cut short
 */
export function parseFrame(bytes: Uint8Array): ParsedFrame {
  if (bytes.length < FRAME_OVERHEAD_BYTES) throw corrupt('it is cut short');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(0, true) !== MAGIC) throw corrupt('it has another magic number');
  if (view.getUint8(4) !== FLAGS || view.getUint8(5) !== BLOCK_DESCRIPTOR) throw corrupt('it has another descriptor');
  if (view.getUint8(14) !== headerChecksum(bytes)) throw corrupt('its header checksum is wrong');
  const size = view.getBigUint64(6, true);
  if (size < 1n || size > BigInt(MAX_FRAME_CONTENT_BYTES)) throw corrupt('its content size is out of range');
  const contentLength = Number(size);
  const { blocks, end } = parseBlocks(bytes, view);
  const [first] = blocks;
  if (first === undefined) throw corrupt('it has no block');
  if (blocks.length === 1 && first.stored && first.bytes.length !== contentLength) {
    throw corrupt('its stored block has another size than it says');
  }
  return { contentLength, contentChecksum: view.getUint32(end, true), blocks, frameLength: end + 4 };
}

/** The block of a frame that has one. @throws {DumontError} CORRUPT when it has more */
export function onlyBlock({ blocks }: ParsedFrame): FrameBlock {
  const [block, another] = blocks;
  if (block === undefined || another !== undefined) throw corrupt('it has more blocks than one');
  return block;
}

/** @returns `end`, where the content checksum lies, all four bytes of it inside `bytes` */
function parseBlocks(bytes: Uint8Array, view: DataView): { readonly blocks: readonly FrameBlock[]; end: number } {
  const blocks: FrameBlock[] = [];
  for (let at = FRAME_HEADER_BYTES; ;) {
    if (at + FOOTER_BYTES > bytes.length) throw corrupt('a block is cut short');
    const word = view.getUint32(at, true);
    at += BLOCK_SIZE_BYTES;
    if (word === 0) return { blocks, end: at };
    const stored = word >= STORED_BIT;
    const length = stored ? word - STORED_BIT : word;
    if (length < 1 || length > MAX_FRAME_RAW_BYTES) throw corrupt('the size of a block is out of range');
    if (blocks.length === MAX_PLANES_BLOCKS) throw corrupt('it has too many blocks');
    if (at + length > bytes.length) throw corrupt('a block is cut short');
    blocks.push({ bytes: bytes.subarray(at, at + length), stored });
    at += length;
  }
}

/** Second byte of the XXH32 of the descriptor. */
function headerChecksum(frame: Uint8Array): number {
  return (xxh32(frame.subarray(4, 14)) >>> 8) & 0xff;
}

function corrupt(why: string): DumontError {
  return new DumontError('CORRUPT', `not a frame of ours: ${why}`);
}
