import { assert } from '../util/assert.ts';
import { DumontError } from '../util/errors.ts';
import { xxh32 } from './xxh32.ts';

/**
 * A pack is a sequence of LZ4 frames, one per chunk, then one skippable frame with the index, so that `lz4 -t` verifies
 * it and `lz4 -dc` gives its chunks in order. The index lets the chunk table of a lost manifest be rebuilt.
 *
 *     frame … frame | skippable header (8) | entry (48) … entry | trailer (16)
 *
 *     entry    chunk id (32) · frame offset (u32) · stored length (u32) · raw length (u32) · codec (u32), little-endian
 *     trailer  offset of the first entry (u32) · length of all entries (u32) · XXH32 of the entries (u32) · magic (u32)
 */
export const PACK_TARGET_BYTES = 16 * 1024 * 1024;

/** Largest pack a reader accepts: the target, one frame above it, and room for a pack full of tiny chunks' index. */
export const MAX_PACK_BYTES = 128 * 1024 * 1024;

/** Length of the trailer at the very end of a pack, which locates its index. */
export const PACK_TRAILER_BYTES = 16;

/**
 * How a chunk lies in its frame: as it is, as one LZ4 block, taken apart as planes.ts says, as one Zstandard frame, as
 * lanes in one Zstandard frame, or as planes of its difference to another chunk. A code is the row here.
 */
export const CODECS = ['stored', 'lz4', 'planes', 'zstd', 'lanes-zstd', 'delta'] as const;
export type Codec = (typeof CODECS)[number];

/** Where one chunk lies in a pack. */
export interface PackIndexEntry {
  /** 64 hexadecimal digits. */
  readonly chunkId: string;
  /** Of the frame, bytes from the pack's start. */
  readonly offset: number;
  /** Of the whole frame, bytes. */
  readonly storedLength: number;
  readonly rawLength: number;
  readonly codec: Codec;
}

const SKIPPABLE_MAGIC = 0x184d2a50;
const SKIPPABLE_HEADER_BYTES = 8;
/** "DPK1" read as a little-endian number. */
const TRAILER_MAGIC = 0x314b5044;
const ENTRY_BYTES = 48;

/** The skippable frame that ends a pack whose frames take `framesLength` bytes. */
export function encodePackIndex(entries: readonly PackIndexEntry[], framesLength: number): Uint8Array {
  const entriesLength = entries.length * ENTRY_BYTES;
  const bytes = Buffer.alloc(SKIPPABLE_HEADER_BYTES + entriesLength + PACK_TRAILER_BYTES);
  bytes.writeUInt32LE(SKIPPABLE_MAGIC, 0);
  bytes.writeUInt32LE(entriesLength + PACK_TRAILER_BYTES, 4);
  let at = SKIPPABLE_HEADER_BYTES;
  for (const entry of entries) {
    assert(bytes.write(entry.chunkId, at, 'hex') === 32, 'a chunk id is 32 bytes');
    bytes.writeUInt32LE(entry.offset, at + 32);
    bytes.writeUInt32LE(entry.storedLength, at + 36);
    bytes.writeUInt32LE(entry.rawLength, at + 40);
    bytes.writeUInt32LE(CODECS.indexOf(entry.codec), at + 44);
    at += ENTRY_BYTES;
  }
  bytes.writeUInt32LE(framesLength + SKIPPABLE_HEADER_BYTES, at);
  bytes.writeUInt32LE(entriesLength, at + 4);
  bytes.writeUInt32LE(xxh32(bytes.subarray(SKIPPABLE_HEADER_BYTES, at)), at + 8);
  bytes.writeUInt32LE(TRAILER_MAGIC, at + 12);
  return bytes;
}

/** Where a pack's index lies and what it must hash to. */
export interface PackIndexRange {
  readonly offset: number;
  readonly length: number;
  /** XXH32 of the entries. */
  readonly checksum: number;
}

/**
 * Reads the last {@link PACK_TRAILER_BYTES} of a pack of `packLength` bytes.
 * @throws {DumontError} CORRUPT when they do not locate an index inside the pack
 */
export function decodePackTrailer(trailer: Uint8Array, packLength: number): PackIndexRange {
  const bytes = Buffer.from(trailer.buffer, trailer.byteOffset, trailer.length);
  if (bytes.length !== PACK_TRAILER_BYTES || bytes.readUInt32LE(12) !== TRAILER_MAGIC) {
    throw new DumontError('CORRUPT', 'the pack does not end with our trailer');
  }
  const offset = bytes.readUInt32LE(0);
  const length = bytes.readUInt32LE(4);
  if (length % ENTRY_BYTES !== 0 || offset + length !== packLength - PACK_TRAILER_BYTES) {
    throw new DumontError('CORRUPT', "the pack's trailer points outside the pack");
  }
  return { offset, length, checksum: bytes.readUInt32LE(8) };
}

/**
 * The entries located by {@link decodePackTrailer}.
 * @throws {DumontError} CORRUPT when the checksum differs, or for an unknown codec
 */
export function decodePackIndex(index: Uint8Array, { checksum }: PackIndexRange): readonly PackIndexEntry[] {
  const bytes = Buffer.from(index.buffer, index.byteOffset, index.length);
  if (xxh32(bytes) !== checksum) throw new DumontError('CORRUPT', "the pack's index does not have its checksum");
  const entries: PackIndexEntry[] = [];
  for (let at = 0; at + ENTRY_BYTES <= bytes.length; at += ENTRY_BYTES) {
    const codec = CODECS[bytes.readUInt32LE(at + 44)];
    if (codec === undefined) throw new DumontError('CORRUPT', "the pack's index names an unknown codec");
    entries.push({
      chunkId: bytes.toString('hex', at, at + 32),
      offset: bytes.readUInt32LE(at + 32),
      storedLength: bytes.readUInt32LE(at + 36),
      rawLength: bytes.readUInt32LE(at + 40),
      codec,
    });
  }
  return entries;
}
