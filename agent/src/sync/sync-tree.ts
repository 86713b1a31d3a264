import { blake3 } from '@napi-rs/blake-hash';
import { SYNC_BUCKETS, type SyncEntry } from '@dumont/shared/protocol/sync.ts';
import type { FileState } from '../workspace/scan.ts';
import { packNode, type PackedNode, stateOfPacked, typeOfPacked, unpackNode } from './packed-node.ts';

/** What the inode at a path was when its entry was made, on the machine that keeps the tree. */
export interface KnownState extends FileState {
  /** No write can have happened since without changing the state. */
  readonly settled: boolean;
}

/** An entry and what is known of its inode; null when nothing is. */
export interface TreeNode {
  readonly entry: SyncEntry;
  readonly state: KnownState | null;
}

const HASH_BYTES = 32;

/**
 * A tree of entries with a hash of all of them that costs one entry's work per change: every bucket is the XOR of its
 * entries' hashes. Both sides keep one; equal hashes mean equal trees. Also tells which paths hold a chunk, an inode or a
 * group of links.
 */
export class SyncTree {
  readonly #nodes = new Map<string, PackedNode>();
  readonly #children = new Map<string, Set<string>>();
  readonly #chunks = new PathIndex();
  readonly #inodes = new PathIndex();
  readonly #groups = new PathIndex();
  readonly #buckets = Buffer.alloc(SYNC_BUCKETS * HASH_BYTES);
  #highestGroup = 0;
  /** Told of every change with what was there before. */
  onChange: (path: string, before: TreeNode | undefined) => void = () => {};

  get size(): number {
    return this.#nodes.size;
  }

  /** What lies at a path, made anew by every call. */
  get(path: string): TreeNode | undefined {
    const packed = this.#nodes.get(path);
    return packed === undefined ? undefined : unpackNode(packed);
  }

  /** The same as of {@link get}, without making the rest of it. */
  typeOf(path: string): SyncEntry['type'] | undefined {
    const packed = this.#nodes.get(path);
    return packed === undefined ? undefined : typeOfPacked(packed);
  }

  stateOf(path: string): KnownState | null {
    const packed = this.#nodes.get(path);
    return packed === undefined ? null : stateOfPacked(packed);
  }

  /** Another one whenever the entry or its state is; undefined where nothing is. */
  versionOf(path: string): string | undefined {
    return this.#nodes.get(path);
  }

  paths(): IterableIterator<string> {
    return this.#nodes.keys();
  }

  /** Replaces one path; what lies below is left alone. */
  set(path: string, node: TreeNode): void {
    const before = this.get(path);
    if (before !== undefined) this.#forget(path, before);
    else this.#ensureChildrenOf(parentOf(path)).add(path);
    this.#nodes.set(path, packNode(node));
    this.#toggle(path, node.entry);
    if (node.entry.type === 'file') {
      for (const [id] of node.entry.content.chunks) this.#chunks.add(chunkKey(id), path);
      if (node.entry.group !== 0) this.#groups.add(String(node.entry.group), path);
      this.#highestGroup = Math.max(this.#highestGroup, node.entry.group);
    }
    if (node.state !== null) this.#inodes.add(inodeKey(node.state), path);
    this.onChange(path, before);
  }

  /** A new look at the entry of a path: no change of the tree. */
  setState(path: string, state: KnownState | null): void {
    const node = this.get(path);
    if (node === undefined) return;
    if (node.state !== null) this.#inodes.remove(inodeKey(node.state), path);
    if (state !== null) this.#inodes.add(inodeKey(state), path);
    this.#nodes.set(path, packNode({ entry: node.entry, state }));
  }

  /** Removes one path; what lies below is left alone. */
  delete(path: string): void {
    const before = this.get(path);
    if (before === undefined) return;
    this.#forget(path, before);
    this.#nodes.delete(path);
    const parent = parentOf(path);
    const siblings = this.#children.get(parent);
    siblings?.delete(path);
    if (siblings?.size === 0) this.#children.delete(parent);
    this.onChange(path, before);
  }

  /** Paths right below one; '' for the root. */
  childrenOf(path: string): Iterable<string> {
    return this.#children.get(path) ?? [];
  }

  /** All paths below one, folders before what they hold. */
  below(path: string): readonly string[] {
    const found: string[] = [];
    for (const child of this.#children.get(path) ?? []) {
      found.push(child);
      for (const deeper of this.below(child)) found.push(deeper);
    }
    return found;
  }

  /** Paths of files with this chunk. */
  holders(chunkId: string): Iterable<string> {
    return this.#chunks.get(chunkKey(chunkId));
  }

  hasChunk(chunkId: string): boolean {
    return this.#chunks.has(chunkKey(chunkId));
  }

  /** Paths whose inode was this one when they were looked at. */
  pathsOfInode(state: FileState): readonly string[] {
    return [...this.#inodes.get(inodeKey(state))];
  }

  /** Paths of one group of links, none for group 0. */
  pathsOfGroup(group: number): readonly string[] {
    return group === 0 ? [] : [...this.#groups.get(String(group))];
  }

  /** A number that no group of this tree has. */
  freshGroup(): number {
    return this.#highestGroup + 1;
  }

  /** 64 hexadecimal digits. */
  hash(): string {
    return blake3(this.#buckets).toString('hex');
  }

  /** The hashes of all buckets in hexadecimal. */
  bucketHashes(): string {
    return this.#buckets.toString('hex');
  }

  /** Buckets that are not like those of another tree. */
  differingBuckets(hashes: string): readonly number[] {
    const other = Buffer.from(hashes, 'hex');
    const found: number[] = [];
    for (let at = 0; at < this.#buckets.length; at += HASH_BYTES) {
      if (this.#buckets.compare(other, at, at + HASH_BYTES, at, at + HASH_BYTES) !== 0) found.push(at / HASH_BYTES);
    }
    return found;
  }

  pathsIn(buckets: readonly number[]): readonly string[] {
    const wanted = new Set(buckets);
    return [...this.#nodes.keys()].filter((path) => wanted.has(bucketOf(path)));
  }

  #ensureChildrenOf(folder: string): Set<string> {
    const known = this.#children.get(folder);
    if (known !== undefined) return known;
    const made = new Set<string>();
    this.#children.set(folder, made);
    return made;
  }

  #forget(path: string, { entry, state }: TreeNode): void {
    this.#toggle(path, entry);
    if (state !== null) this.#inodes.remove(inodeKey(state), path);
    if (entry.type !== 'file') return;
    for (const [id] of entry.content.chunks) this.#chunks.remove(chunkKey(id), path);
    if (entry.group !== 0) this.#groups.remove(String(entry.group), path);
  }

  #toggle(path: string, entry: SyncEntry): void {
    const hash = blake3(Buffer.from(canonical(path, entry)));
    const at = bucketOf(path) * HASH_BYTES;
    for (let index = 0; index < HASH_BYTES; index += 1) {
      this.#buckets[at + index] = (this.#buckets[at + index] ?? 0) ^ (hash[index] ?? 0);
    }
  }
}

/** The folder a path lies in; '' for the root. */
export function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}

/** True when two entries' metadata is the same. Pure. */
export function sameMeta(a: SyncEntry['meta'], b: SyncEntry['meta']): boolean {
  return JSON.stringify(metaFields(a)) === JSON.stringify(metaFields(b));
}

/** True when two files hold the same. Pure. */
export function sameContent(
  a: Extract<SyncEntry, { type: 'file' }>['content'],
  b: Extract<SyncEntry, { type: 'file' }>['content'],
): boolean {
  return (
    a.size === b.size &&
    a.chunks.length === b.chunks.length &&
    a.chunks.every(([id], index) => id === b.chunks[index]?.[0]) &&
    JSON.stringify(a.holes) === JSON.stringify(b.holes)
  );
}

/** Which bucket a path belongs to: FNV-1a of its UTF-16 units. */
function bucketOf(path: string): number {
  let hash = 0x811c_9dc5;
  for (let index = 0; index < path.length; index += 1) {
    hash = Math.imul(hash ^ path.charCodeAt(index), 0x0100_0193);
  }
  return (hash >>> 0) % SYNC_BUCKETS;
}

/** The text that stands for an entry in the tree's hash; fields in this order whatever made the entry. */
function canonical(path: string, entry: SyncEntry): string {
  const own =
    entry.type === 'file'
      ? [entry.content.size, entry.content.chunks, entry.content.holes, entry.group]
      : entry.type === 'symlink'
        ? [entry.target]
        : [];
  return JSON.stringify([path, entry.type, metaFields(entry.meta), own]);
}

function metaFields({ mode, uid, gid, mtimeNs, xattrs }: SyncEntry['meta']): readonly unknown[] {
  return [mode, uid, gid, mtimeNs, xattrs ?? []];
}

/** Half as long as in hexadecimal. */
function chunkKey(chunkId: string): string {
  return Buffer.from(chunkId, 'hex').toString('latin1');
}

function inodeKey({ dev, ino }: FileState): string {
  return `${dev}:${ino}`;
}

/** Which paths belong to a key: mostly one, which is not worth a set. */
class PathIndex {
  readonly #paths = new Map<string, string | Set<string>>();

  has(key: string): boolean {
    return this.#paths.has(key);
  }

  get(key: string): Iterable<string> {
    const found = this.#paths.get(key);
    return found === undefined ? [] : typeof found === 'string' ? [found] : found;
  }

  add(key: string, path: string): void {
    const found = this.#paths.get(key);
    if (found === undefined) this.#paths.set(key, path);
    else if (typeof found !== 'string') found.add(path);
    else if (found !== path) this.#paths.set(key, new Set([found, path]));
  }

  remove(key: string, path: string): void {
    const found = this.#paths.get(key);
    if (found === path) this.#paths.delete(key);
    if (found === undefined || typeof found === 'string') return;
    found.delete(path);
    if (found.size === 0) this.#paths.delete(key);
  }
}
