import { DumontError } from '../util/errors.ts';
import { MAX_FRAME_RAW_BYTES } from './lz4-frame.ts';
import { MAX_CHUNKS, MAX_ENTRIES, MAX_HOLES } from './limits.ts';
import type { ChunkRow, Entry, FileEntry } from './manifest.ts';
import { CODECS, MAX_PACK_BYTES } from './pack.ts';
import type { Segment } from './segment.ts';

/** Longest file name and path of Linux, bytes. */
const MAX_NAME_BYTES = 255;
const MAX_PATH_BYTES = 4_095;
const MAX_TARGET_LENGTH = 4_096;
/** Limits of Linux for the attributes of one file: 64 KiB for a value, as many names as fit into 64 KiB. */
const MAX_XATTRS = 4_096;
const MAX_XATTR_BASE64 = 87_384;

const CHUNK_ID = /^[0-9a-f]{64}$/;
const PACK_ID = /^[0-9a-f]{32}$/;
const NANOSECONDS = /^-?\d{1,19}$/;
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
const CODEC_NAMES: ReadonlySet<unknown> = new Set(CODECS);

/**
 * Refuses a segment that is not of the format, that could make a reader write outside its folder, or follow a reference
 * into nothing. Written by hand, because a schema library takes longer for 100,000 entries than the rest of reading them.
 * Fields that are not known are left alone. Pure.
 * @throws {DumontError} CORRUPT naming the first path or row at fault
 */
export function checkSegment(value: unknown): Segment {
  const { packs, chunks, entries } = fields(value, 'a segment');
  if (!isList(packs, MAX_CHUNKS) || !packs.every((id) => typeof id === 'string' && PACK_ID.test(id))) {
    throw refused('packs', 'it is not a list of pack ids');
  }
  if (!isList(chunks, MAX_CHUNKS)) throw refused('chunks', 'it is not a list');
  for (const row of chunks) checkChunkRow(row, packs.length);
  const rows = chunks as readonly ChunkRow[];
  checkChunkTable(rows);
  if (!isList(entries, MAX_ENTRIES) || entries.length === 0) throw refused('entries', 'it is not a list of entries');
  let before = '';
  for (const entry of entries) {
    const { path } = checkEntry(entry, rows);
    if (path <= before) throw refused(path, 'it does not come after the path before it');
    before = path;
  }
  return { packs: packs as readonly string[], chunks: rows, entries: entries as readonly Entry[] };
}

/** @throws {DumontError} CORRUPT when a chunk is listed twice, or a base is no base */
function checkChunkTable(chunks: readonly ChunkRow[]): void {
  const seen = new Set<string>();
  for (const [id, , , , rawLength, codec, base] of chunks) {
    if (seen.has(id)) throw refused(id, 'the chunk is listed twice');
    seen.add(id);
    if ((codec === 'delta') !== (base !== undefined)) throw refused(id, 'only a difference has a base, and always');
    if (base === undefined) continue;
    const other = chunks[base];
    if (other === undefined) throw refused(id, 'its base is not listed');
    if (other[5] === 'delta' || other[4] !== rawLength) throw refused(id, 'its base cannot be one');
  }
}

function checkChunkRow(row: unknown, packCount: number): void {
  if (!Array.isArray(row) || row.length < 6 || row.length > 7) throw refused('chunks', 'a row has not its fields');
  const [id, pack, offset, storedLength, rawLength, codec, base] = row as readonly unknown[];
  if (typeof id !== 'string' || !CHUNK_ID.test(id)) throw refused('chunks', 'a row has no chunk id');
  if (!isInt(pack, 0, packCount - 1)) throw refused(id, 'the chunk lies in a pack that is not listed');
  if (!isInt(offset, 0, MAX_PACK_BYTES) || !isInt(storedLength, 1, MAX_PACK_BYTES)) {
    throw refused(id, 'its place is in no pack');
  }
  if (!isInt(rawLength, 1, MAX_FRAME_RAW_BYTES)) throw refused(id, 'its length is out of range');
  if (!CODEC_NAMES.has(codec)) throw refused(id, 'its codec is not known');
  if (row.length === 7 && !isInt(base, 0, MAX_CHUNKS)) throw refused(id, 'its base is no row');
}

function checkEntry(value: unknown, chunks: readonly ChunkRow[]): Entry {
  const entry = fields(value, 'an entry');
  const { type, path } = entry;
  if (typeof path !== 'string') throw refused('entries', 'an entry has no path');
  const objection = pathObjection(path);
  if (objection !== undefined) throw refused(path, objection);
  switch (type) {
    case 'file':
      checkMetadata(path, entry);
      checkXattrs(path, entry['xattrs']);
      checkContent(path, entry as unknown as Unchecked<FileEntry>, chunks);
      break;
    case 'dir':
      checkMetadata(path, entry);
      checkXattrs(path, entry['xattrs']);
      break;
    case 'symlink':
      checkMetadata(path, entry);
      if (!isTarget(entry['target'])) throw refused(path, 'its target is no path');
      break;
    case 'hardlink':
      if (!isTarget(entry['target'])) throw refused(path, 'its target is no path');
      break;
    default:
      throw refused(path, 'its type is not known');
  }
  return value as Entry;
}

function checkMetadata(path: string, { mode, uid, gid, mtimeNs }: Readonly<Record<string, unknown>>): void {
  if (!isInt(mode, 0, 0o7777)) throw refused(path, 'its mode is out of range');
  if (!isInt(uid, 0, 0xffff_ffff) || !isInt(gid, 0, 0xffff_ffff)) throw refused(path, 'its owner is out of range');
  if (typeof mtimeNs !== 'string' || !NANOSECONDS.test(mtimeNs)) throw refused(path, 'its time is not one');
}

type Unchecked<T> = { readonly [Key in keyof T]: unknown };

/** Chunks and holes must make up exactly the size, the holes inside it, apart from each other. */
function checkContent(path: string, entry: Unchecked<FileEntry>, chunks: readonly ChunkRow[]): void {
  if (!isInt(entry.size, 0, Number.MAX_SAFE_INTEGER)) throw refused(path, 'its size is out of range');
  if (!isList(entry.chunks, MAX_CHUNKS)) throw refused(path, 'its chunks are not a list');
  let size = 0;
  for (const row of entry.chunks) {
    const chunk = typeof row === 'number' ? chunks[row] : undefined;
    if (chunk === undefined) throw refused(path, 'it uses a chunk that is not listed');
    size += chunk[4];
  }
  if (entry.holes !== undefined) size += checkHoles(path, entry.holes, entry.size);
  if (size !== entry.size) throw refused(path, `its chunks and holes make ${size} bytes, it says ${entry.size}`);
  if (entry.torn !== undefined && entry.torn !== true) throw refused(path, 'it is neither torn nor whole');
}

/** The bytes in holes. */
function checkHoles(path: string, holes: unknown, size: number): number {
  if (!isList(holes, MAX_HOLES) || holes.length === 0) throw refused(path, 'its holes are not a list');
  let end = -1;
  let total = 0;
  for (const hole of holes) {
    const [offset, length] = Array.isArray(hole) && hole.length === 2 ? (hole as unknown[]) : [];
    if (!isInt(offset, 0, size) || !isInt(length, 1, size - offset)) throw refused(path, 'a hole is outside of it');
    if (offset <= end) throw refused(path, 'its holes are not apart from each other');
    end = offset + length;
    total += length;
  }
  return total;
}

function checkXattrs(path: string, xattrs: unknown): void {
  if (xattrs === undefined) return;
  if (!isList(xattrs, MAX_XATTRS)) throw refused(path, 'its attributes are not a list');
  for (const one of xattrs) {
    const [name, value] = Array.isArray(one) && one.length === 2 ? (one as unknown[]) : [];
    const isName = typeof name === 'string' && name !== '' && !name.includes('\0') && name.isWellFormed();
    if (!isName || Buffer.byteLength(name) > MAX_NAME_BYTES) throw refused(path, 'an attribute has no name');
    if (typeof value !== 'string' || value.length > MAX_XATTR_BASE64 || !BASE64.test(value)) {
      throw refused(path, 'an attribute has no value');
    }
  }
}

/** Why a path must not be used as an entry's, undefined when it is a plain relative one. Pure. */
export function pathObjection(path: string): string | undefined {
  if (path === '') return 'it is empty';
  if (!path.isWellFormed()) return 'it is not valid Unicode';
  if (path.includes('\0')) return 'it holds a NUL';
  if (path.startsWith('/')) return 'it is absolute';
  if (path.length > MAX_PATH_BYTES || Buffer.byteLength(path) > MAX_PATH_BYTES) return 'it is too long';
  for (let start = 0; start <= path.length;) {
    const slash = path.indexOf('/', start);
    const end = slash === -1 ? path.length : slash;
    const length = end - start;
    const isDots = path[start] === '.' && (length === 1 || (length === 2 && path[start + 1] === '.'));
    if (length === 0 || isDots) return 'it holds an empty name, . or ..';
    // A UTF-16 unit takes three bytes at most.
    if (length * 3 > MAX_NAME_BYTES && Buffer.byteLength(path.slice(start, end)) > MAX_NAME_BYTES) {
      return 'it holds a name that is too long';
    }
    start = end + 1;
  }
  return undefined;
}

function isTarget(target: unknown): boolean {
  if (typeof target !== 'string' || target === '' || target.length > MAX_TARGET_LENGTH) return false;
  return target.isWellFormed() && !target.includes('\0');
}

function isInt(value: unknown, least: number, most: number): value is number {
  return Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most;
}

function isList(value: unknown, maxLength: number): value is readonly unknown[] {
  return Array.isArray(value) && value.length <= maxLength;
}

function fields(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw refused(what, 'it is no object');
}

function refused(what: string, why: string): DumontError {
  return new DumontError('CORRUPT', `the manifest is refused at ${JSON.stringify(what)}: ${why}`);
}
