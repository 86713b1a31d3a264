import { assert, must } from '../util/assert.ts';
import { DumontError } from '../util/errors.ts';
import { MAX_FRAME_RAW_BYTES } from './lz4-frame.ts';
import { CODECS, MAX_PACK_BYTES, type PackIndexEntry } from './pack.ts';
import { xxh32 } from './xxh32.ts';

/**
 * An index object tells which chunk lies in which pack, so that a writer knows what is stored without reading packs or
 * manifests. It is a help and may be wrong: a pack it names may be gone. Chunks of codec `delta` are left out, because
 * only manifests say what they are the difference to; their packs are listed all the same.
 *
 *     header (16) | pack id (16) … | entry (48) …
 *
 *     header   magic (u32) · packs (u32) · entries (u32) · XXH32 of all that follows (u32), little-endian
 *     entry    chunk id (32) · row of the pack (u32) · frame offset (u32) · stored length (u32) · raw length (24 bits) ·
 *              codec (8 bits); ascending by chunk id, no id twice
 */
export interface IndexObject {
  readonly packIds: readonly string[];
  /** Entries as they are stored, {@link INDEX_ENTRY_BYTES} each, read by {@link indexEntryAt}. */
  readonly entries: Uint8Array;
}

/** One chunk in one pack. */
export interface IndexedChunk extends PackIndexEntry {
  readonly packId: string;
}

export const INDEX_ENTRY_BYTES = 48;

/** Most chunks and packs of one object: 13 MB, which is read and checked at once. */
export const MAX_INDEX_ENTRIES = 262_144;
export const MAX_INDEX_PACKS = 65_536;

/** Largest object of this kind, bytes. */
export const MAX_INDEX_BYTES = 16 + MAX_INDEX_PACKS * 16 + MAX_INDEX_ENTRIES * INDEX_ENTRY_BYTES;

/** "DIX1" read as a little-endian number. */
const MAGIC = 0x31584944;
const HEADER_BYTES = 16;
const PACK_ID_BYTES = 16;
const RAW_LENGTH_BITS = 24;

/**
 * @param chunks in any order; of a chunk listed twice the first place is kept, `delta` is left out
 * @param packIds every pack to list, at least those of the chunks; at most {@link MAX_INDEX_PACKS}
 */
export function encodeIndexObject(packIds: readonly string[], chunks: readonly IndexedChunk[]): Uint8Array {
  const rows = new Map(packIds.map((packId, row) => [packId, row]));
  const first = new Map<string, IndexedChunk>();
  for (const chunk of chunks) {
    if (chunk.codec !== 'delta' && !first.has(chunk.chunkId)) first.set(chunk.chunkId, chunk);
  }
  const sorted = [...first.values()].sort((a, b) => (a.chunkId < b.chunkId ? -1 : 1));
  assert(rows.size <= MAX_INDEX_PACKS && sorted.length <= MAX_INDEX_ENTRIES, 'an index object is bounded');
  const bytes = Buffer.alloc(HEADER_BYTES + rows.size * PACK_ID_BYTES + sorted.length * INDEX_ENTRY_BYTES);
  let at = HEADER_BYTES;
  for (const packId of rows.keys()) {
    assert(bytes.write(packId, at, 'hex') === PACK_ID_BYTES, 'a pack id is 16 bytes');
    at += PACK_ID_BYTES;
  }
  for (const { chunkId, packId, offset, storedLength, rawLength, codec } of sorted) {
    assert(bytes.write(chunkId, at, 'hex') === 32, 'a chunk id is 32 bytes');
    bytes.writeUInt32LE(must(rows.get(packId), 'the packs of all chunks are listed'), at + 32);
    bytes.writeUInt32LE(offset, at + 36);
    bytes.writeUInt32LE(storedLength, at + 40);
    bytes.writeUInt32LE(rawLength + CODECS.indexOf(codec) * 2 ** RAW_LENGTH_BITS, at + 44);
    at += INDEX_ENTRY_BYTES;
  }
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt32LE(rows.size, 4);
  bytes.writeUInt32LE(sorted.length, 8);
  bytes.writeUInt32LE(xxh32(bytes.subarray(HEADER_BYTES)), 12);
  return bytes;
}

/**
 * Inverse of {@link encodeIndexObject}; the entries are a view into `object`, every one of them checked.
 * @throws {DumontError} CORRUPT for anything that function does not write
 */
export function decodeIndexObject(object: Uint8Array): IndexObject {
  const bytes = Buffer.from(object.buffer, object.byteOffset, object.length);
  if (bytes.length < HEADER_BYTES || bytes.readUInt32LE(0) !== MAGIC) throw corrupt('it does not begin as one');
  const packCount = bytes.readUInt32LE(4);
  const entryCount = bytes.readUInt32LE(8);
  if (packCount > MAX_INDEX_PACKS || entryCount > MAX_INDEX_ENTRIES) throw corrupt('it is too large');
  const entriesAt = HEADER_BYTES + packCount * PACK_ID_BYTES;
  if (bytes.length !== entriesAt + entryCount * INDEX_ENTRY_BYTES) throw corrupt('it has another length than it says');
  if (xxh32(bytes.subarray(HEADER_BYTES)) !== bytes.readUInt32LE(12)) throw corrupt('it does not have its checksum');
  const packIds = Array.from({ length: packCount }, (_, row) => {
    const at = HEADER_BYTES + row * PACK_ID_BYTES;
    return bytes.toString('hex', at, at + PACK_ID_BYTES);
  });
  const entries = bytes.subarray(entriesAt);
  checkEntries(entries, packCount);
  return { packIds, entries };
}

/** The entry of a row of a decoded object. */
export function indexEntryAt({ packIds, entries }: IndexObject, row: number): IndexedChunk {
  const bytes = Buffer.from(entries.buffer, entries.byteOffset, entries.length);
  const at = row * INDEX_ENTRY_BYTES;
  const packed = bytes.readUInt32LE(at + 44);
  return {
    chunkId: bytes.toString('hex', at, at + 32),
    packId: must(packIds[bytes.readUInt32LE(at + 32)], 'a checked entry has a listed pack'),
    offset: bytes.readUInt32LE(at + 36),
    storedLength: bytes.readUInt32LE(at + 40),
    rawLength: packed % 2 ** RAW_LENGTH_BITS,
    codec: must(CODECS[packed >>> RAW_LENGTH_BITS], 'a checked entry has a known codec'),
  };
}

function checkEntries(entries: Buffer, packCount: number): void {
  for (let at = 0; at < entries.length; at += INDEX_ENTRY_BYTES) {
    if (at > 0 && entries.compare(entries, at - INDEX_ENTRY_BYTES, at - 16, at, at + 32) <= 0) {
      throw corrupt('its entries are not in order');
    }
    const offset = entries.readUInt32LE(at + 36);
    const storedLength = entries.readUInt32LE(at + 40);
    const packed = entries.readUInt32LE(at + 44);
    const rawLength = packed % 2 ** RAW_LENGTH_BITS;
    const codec = CODECS[packed >>> RAW_LENGTH_BITS];
    if (entries.readUInt32LE(at + 32) >= packCount) throw corrupt('an entry names a pack that is not listed');
    if (storedLength === 0 || offset + storedLength > MAX_PACK_BYTES) throw corrupt('an entry lies outside its pack');
    if (rawLength === 0 || rawLength > MAX_FRAME_RAW_BYTES) throw corrupt('an entry has a length out of range');
    if (codec === undefined || codec === 'delta') throw corrupt('an entry has a codec that is not indexed');
  }
}

function corrupt(why: string): DumontError {
  return new DumontError('CORRUPT', `an index object is refused: ${why}`);
}
