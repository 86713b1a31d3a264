import type { SyncContent, SyncEntry } from '@dumont/shared/protocol/sync.ts';
import type { KnownState, TreeNode } from './sync-tree.ts';

/** What an entry of a tree is, in a string of one byte per character: one small object instead of twenty. */
export type PackedNode = string;

const TYPES = ['file', 'dir', 'symlink'] as const;
const TYPE_MASK = 3;
const HAS_STATE = 4;
const IS_SETTLED = 8;
const HAS_EXTRA = 16;
/** Flags (u8) · mode (u16) · uid (u32) · gid (u32) · mtime (i64). */
const META_BYTES = 19;
/** Size, mtime, ctime, inode, device, 8 bytes each. */
const STATE_BYTES = 40;
/** Size (f64) · group (f64) · count of chunks (u32). */
const FILE_BYTES = 20;
/** Id (32) · length (u32). */
const CHUNK_BYTES = 36;
const ID_BYTES = 32;

/** What few entries have. */
interface Extra {
  readonly xattrs?: SyncEntry['meta']['xattrs'];
  readonly holes?: SyncContent['holes'];
  readonly target?: string;
  /** A time that is not written as 64 bits are. */
  readonly mtimeNs?: string;
}

let scratch = Buffer.alloc(64 * 1024);

export function packNode({ entry, state }: TreeNode): PackedNode {
  const extra = extraOf(entry);
  const chunks = entry.type === 'file' ? entry.content.chunks : [];
  const extraText = extra === null ? '' : JSON.stringify(extra);
  makeRoom(META_BYTES + STATE_BYTES + FILE_BYTES + chunks.length * CHUNK_BYTES + extraText.length * 3);
  const { mode, uid, gid } = entry.meta;
  const flags = TYPES.indexOf(entry.type) | (extra === null ? 0 : HAS_EXTRA);
  scratch.writeUInt8(flags | (state === null ? 0 : HAS_STATE) | (state?.settled === true ? IS_SETTLED : 0), 0);
  scratch.writeUInt16LE(mode, 1);
  scratch.writeUInt32LE(uid, 3);
  scratch.writeUInt32LE(gid, 7);
  scratch.writeBigInt64LE(extra?.mtimeNs === undefined ? BigInt(entry.meta.mtimeNs) : 0n, 11);
  let at = META_BYTES;
  if (state !== null) at = putState(state, at);
  if (entry.type === 'file') {
    scratch.writeDoubleLE(entry.content.size, at);
    scratch.writeDoubleLE(entry.group, at + 8);
    scratch.writeUInt32LE(chunks.length, at + 16);
    at += FILE_BYTES;
    for (const [id, length] of chunks) {
      scratch.write(id, at, 'hex');
      scratch.writeUInt32LE(length, at + ID_BYTES);
      at += CHUNK_BYTES;
    }
  }
  at += scratch.write(extraText, at, 'utf8');
  return scratch.toString('latin1', 0, at);
}

export function unpackNode(packed: PackedNode): TreeNode {
  makeRoom(packed.length);
  scratch.write(packed, 0, 'latin1');
  const flags = scratch.readUInt8(0);
  const type = TYPES[flags & TYPE_MASK];
  const state = (flags & HAS_STATE) === 0 ? null : readState(META_BYTES, flags);
  const bodyAt = META_BYTES + (state === null ? 0 : STATE_BYTES);
  const count = type === 'file' ? scratch.readUInt32LE(bodyAt + 16) : 0;
  const extraAt = bodyAt + (type === 'file' ? FILE_BYTES + count * CHUNK_BYTES : 0);
  const hasExtra = (flags & HAS_EXTRA) !== 0;
  const extra: Extra = hasExtra ? JSON.parse(scratch.toString('utf8', extraAt, packed.length)) : {};
  const plain = {
    mode: scratch.readUInt16LE(1),
    uid: scratch.readUInt32LE(3),
    gid: scratch.readUInt32LE(7),
    mtimeNs: extra.mtimeNs ?? String(scratch.readBigInt64LE(11)),
  };
  const meta = extra.xattrs === undefined ? plain : { ...plain, xattrs: extra.xattrs };
  if (type === 'dir') return { entry: { type, meta }, state };
  if (type === 'symlink') return { entry: { type, meta, target: extra.target ?? '' }, state };
  const size = scratch.readDoubleLE(bodyAt);
  const group = scratch.readDoubleLE(bodyAt + 8);
  const content = { size, chunks: readChunks(bodyAt + FILE_BYTES, count), holes: extra.holes ?? [] };
  return { entry: { type: 'file', meta, content, group }, state };
}

/** The same without reading the rest of it. */
export function typeOfPacked(packed: PackedNode): SyncEntry['type'] {
  return TYPES[packed.charCodeAt(0) & TYPE_MASK] ?? 'file';
}

export function stateOfPacked(packed: PackedNode): KnownState | null {
  const flags = packed.charCodeAt(0);
  if ((flags & HAS_STATE) === 0) return null;
  scratch.write(packed.slice(META_BYTES, META_BYTES + STATE_BYTES), 0, 'latin1');
  return readState(0, flags);
}

function extraOf(entry: SyncEntry): Extra | null {
  const { xattrs, mtimeNs } = entry.meta;
  const extra: Extra = {
    ...(xattrs !== undefined && { xattrs }),
    ...(entry.type === 'file' && entry.content.holes.length > 0 && { holes: entry.content.holes }),
    ...(entry.type === 'symlink' && { target: entry.target }),
    ...(String(BigInt.asIntN(64, BigInt(mtimeNs))) !== mtimeNs && { mtimeNs }),
  };
  return Object.keys(extra).length === 0 ? null : extra;
}

function putState({ size, mtimeNs, ctimeNs, ino, dev }: KnownState, at: number): number {
  scratch.writeBigUInt64LE(size, at);
  scratch.writeBigInt64LE(mtimeNs, at + 8);
  scratch.writeBigInt64LE(ctimeNs, at + 16);
  scratch.writeBigUInt64LE(ino, at + 24);
  scratch.writeBigUInt64LE(dev, at + 32);
  return at + STATE_BYTES;
}

function readState(at: number, flags: number): KnownState {
  return {
    size: scratch.readBigUInt64LE(at),
    mtimeNs: scratch.readBigInt64LE(at + 8),
    ctimeNs: scratch.readBigInt64LE(at + 16),
    ino: scratch.readBigUInt64LE(at + 24),
    dev: scratch.readBigUInt64LE(at + 32),
    settled: (flags & IS_SETTLED) !== 0,
  };
}

function readChunks(from: number, count: number): [string, number][] {
  const chunks: [string, number][] = [];
  for (let at = from; chunks.length < count; at += CHUNK_BYTES) {
    chunks.push([scratch.toString('hex', at, at + ID_BYTES), scratch.readUInt32LE(at + ID_BYTES)]);
  }
  return chunks;
}

/** The longest entry decides how much is kept. */
function makeRoom(bytes: number): void {
  if (bytes > scratch.length) scratch = Buffer.alloc(2 * bytes);
}
