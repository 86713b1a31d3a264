import { lstatSync, readdirSync } from 'node:fs';
import type { SyncContent, SyncMeta } from '@dumont/shared/protocol/sync.ts';
import { MAX_SYNC_FILE_CHUNKS } from '@dumont/shared/protocol/sync.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { IgnoreRules } from '../workspace/ignore.ts';
import { examine, sameFileState, type ScannedEntry } from '../workspace/scan.ts';
import { ContentReader } from './file-content.ts';
import { readTail, type GrownFile } from './grown-file.ts';
import type { OutgoingBatch } from './outgoing-batch.ts';
import { metaOf } from './read-folder.ts';
import { parentOf, sameContent, sameMeta, type KnownState, type SyncTree, type TreeNode } from './sync-tree.ts';

/** Larger files are read step by step, so that they do not hold up others. */
export const LARGE_FILE_BYTES = 4 * 1024 * 1024;

/** What is to be done about a path after a look at it. */
export type Look =
  /** It is as the standby has it, or what it takes was added to the batch. */
  | { readonly kind: 'done' }
  /** Nothing lies there, but the standby has something: to be removed when nothing was renamed to elsewhere. */
  | { readonly kind: 'gone' }
  /** A folder that was not known: what it holds is to be looked at. */
  | { readonly kind: 'new-folder' }
  /** Something was added to or removed from the folder. */
  | { readonly kind: 'changed-folder' }
  | { readonly kind: 'large'; readonly size: number }
  /** It changes faster than it can be read: to be looked at again soon. */
  | { readonly kind: 'again' }
  /** What was appended is on its way, the rest was not read: to be read as a whole once it is quiet. */
  | { readonly kind: 'verify' };

/** Every name of a folder up to this size is looked at when it changed, some 2 ms. */
const SMALL_FOLDER_NAMES = 256;

const DONE: Look = { kind: 'done' };

type FileNode = TreeNode & { readonly entry: Extract<TreeNode['entry'], { type: 'file' }> };

/** A file as it was read. */
export interface ReadFile {
  readonly path: string;
  readonly meta: SyncMeta;
  readonly content: SyncContent;
  readonly state: KnownState;
}

/** Finds out what makes a standby's tree equal to the folder, path by path. */
export class ChangePlanner {
  readonly #root: string;
  readonly #tree: SyncTree;
  readonly #reader: ContentReader;
  #rootMtimeNs: bigint | undefined;
  rules: IgnoreRules;

  constructor(options: {
    readonly root: string;
    readonly tree: SyncTree;
    readonly rules: IgnoreRules;
    readonly clock: Clock;
  }) {
    this.#root = options.root;
    this.#tree = options.tree;
    this.#reader = new ContentReader(options.clock);
    this.rules = options.rules;
  }

  /** Adds to the batch what the path needs. Folders come before what they hold. */
  look(path: string, batch: OutgoingBatch): Look {
    const found = this.#find(path);
    if (found === null) return this.#tree.typeOf(path) === undefined ? DONE : { kind: 'gone' };
    const parent = parentOf(path);
    // Its folder vanished, or is on its way: that is told apart.
    if (parent !== '' && this.#tree.typeOf(parent) !== 'dir') return DONE;
    this.#renameTo(found, batch);
    const before = this.#tree.typeOf(path);
    if (before !== undefined && before !== found.type && [before, found.type].includes('dir')) {
      batch.add({ op: 'delete', path });
    }
    switch (found.type) {
      case 'dir':
        return this.#lookAtFolder(found, batch);
      case 'symlink':
        return this.#lookAtLink(found, batch);
      case 'file':
        return this.#lookAtFile(found, batch);
    }
  }

  /** Removes a path that is gone, unless it is there again. */
  remove(path: string, batch: OutgoingBatch): void {
    if (this.#tree.typeOf(path) !== undefined && this.#find(path) === null) batch.add({ op: 'delete', path });
  }

  /** True when the path may differ from what the standby has. Cheap. */
  mayDiffer(found: ScannedEntry): boolean {
    if (this.#tree.typeOf(found.path) !== found.type) return true;
    const state = this.#tree.stateOf(found.path);
    return state === null || !state.settled || !sameFileState(state, found);
  }

  /**
   * Paths of a folder that the watcher may have passed over: names that are on one side only, and in small folders whatever
   * may differ.
   */
  unseenIn(folder: string): readonly string[] {
    if (folder === '' && !this.#isRootChanged()) return [];
    const prefix = folder === '' ? '' : `${folder}/`;
    const known = new Set(this.#tree.childrenOf(folder));
    const unseen: string[] = [];
    const names = readNames(`${this.#root}/${folder}`);
    for (const name of names) {
      const path = prefix + name;
      const isKnown = known.delete(path);
      if (isKnown && names.length > SMALL_FOLDER_NAMES) continue;
      const found = this.#find(path);
      if (found !== null && this.mayDiffer(found)) unseen.push(path);
    }
    return [...unseen, ...known];
  }

  /** The entry of a large file that was read, if it still lies there. */
  describe(path: string): { readonly meta: SyncMeta; readonly found: ScannedEntry } | null {
    const found = this.#find(path);
    if (found?.type !== 'file' || this.#tree.typeOf(path) === 'dir') return null;
    if (parentOf(path) !== '' && this.#tree.typeOf(parentOf(path)) !== 'dir') return null;
    return { meta: metaOf(this.#root, found), found };
  }

  /**
   * Adds what makes the standby's file the one that was read.
   * @param stage that holds the content; absent: its chunks were offered to the batch
   */
  addFile(file: ReadFile, batch: OutgoingBatch, stage?: number): void {
    const { path, meta, content, state } = file;
    const links = this.#otherNames(path, state);
    const before = this.#fileAt(path);
    const isSame = before !== undefined && sameContent(before.entry.content, content);
    const peers = this.#tree.pathsOfGroup(before?.entry.group ?? 0).filter((other) => other !== path);
    const isLinkedRight = peers.length === links.length && peers.every((other) => links.includes(other));
    const twin = links[0] === undefined ? undefined : this.#fileAt(links[0]);
    if (isSame && isLinkedRight) {
      if (!sameMeta(before.entry.meta, meta)) batch.add({ op: 'meta', path, meta });
    } else if (twin !== undefined && links[0] !== undefined && this.#isTwin(twin, file) && isSubset(peers, links)) {
      const group = twin.entry.group === 0 ? this.#tree.freshGroup() : twin.entry.group;
      batch.add({ op: 'link', path, target: links[0], group });
    } else {
      const group = links.length === 0 ? 0 : this.#tree.freshGroup();
      if (stage === undefined) batch.add({ op: 'file', path, meta, content, group, links: [...links] });
      else {
        const { size, holes } = content;
        batch.add({ op: 'staged', path, meta, stage, size, holes, group, links: [...links] }, content);
      }
    }
    for (const name of [path, ...links]) this.#remember(name, state);
  }

  /** Since it was asked last. The root is no entry of the tree, and every round would read its names. */
  #isRootChanged(): boolean {
    const mtimeNs = lstatSync(this.#root, { bigint: true, throwIfNoEntry: false })?.mtimeNs;
    const isChanged = mtimeNs !== this.#rootMtimeNs;
    this.#rootMtimeNs = mtimeNs;
    return isChanged;
  }

  #lookAtFolder(found: ScannedEntry, batch: OutgoingBatch): Look {
    const { path } = found;
    const meta = metaOf(this.#root, found);
    const before = this.#tree.get(path);
    if (before === undefined || !sameMeta(before.entry.meta, meta)) batch.add({ op: 'dir', path, meta });
    const inode = before?.state?.ino;
    const isOther = inode !== undefined && inode !== found.ino;
    this.#remember(path, { ...stateOf(found), settled: true });
    if (before === undefined || isOther) return { kind: 'new-folder' };
    return before?.state?.mtimeNs === found.mtimeNs ? DONE : { kind: 'changed-folder' };
  }

  #lookAtLink(found: ScannedEntry, batch: OutgoingBatch): Look {
    const { path, linkTarget: target } = found;
    const meta = metaOf(this.#root, found);
    const entry = this.#tree.get(path)?.entry;
    const isSame = entry?.type === 'symlink' && entry.target === target && sameMeta(entry.meta, meta);
    if (!isSame) batch.add({ op: 'symlink', path, meta, target });
    this.#remember(path, { ...stateOf(found), settled: true });
    return DONE;
  }

  #lookAtFile(found: ScannedEntry, batch: OutgoingBatch): Look {
    const { path } = found;
    if (!this.mayDiffer(found)) return DONE;
    const grown = this.#readGrown(found);
    if (found.size > LARGE_FILE_BYTES) {
      if (grown === null) return { kind: 'large', size: Number(found.size) };
      this.#append(path, grown, batch);
      return { kind: 'verify' };
    }
    const chunks: Buffer[] = [];
    const read = this.#reader.read(`${this.#root}/${path}`, ({ chunkId, raw, elementBytes }) => {
      if (grown === null) batch.offer({ chunkId, raw, elementBytes });
      else chunks.push(Buffer.from(raw));
    });
    if (read.kind !== 'read') return read.kind === 'vanished' && this.#fileAt(path) ? { kind: 'gone' } : DONE;
    if (read.torn || read.content.chunks.length > MAX_SYNC_FILE_CHUNKS) return { kind: 'again' };
    if (grown !== null) {
      if (sameContent(grown.content, read.content)) {
        this.#append(path, { ...grown, state: read.state }, batch);
        return DONE;
      }
      for (const [index, [chunkId]] of read.content.chunks.entries()) {
        const raw = chunks[chunks.length - read.content.chunks.length + index];
        if (raw !== undefined) batch.offer({ chunkId, raw });
      }
    }
    this.addFile({ path, meta: metaOf(this.#root, found), content: read.content, state: read.state }, batch);
    return DONE;
  }

  /** The end of a file that only grew, as far as its end tells; null when it must be read. */
  #readGrown(found: ScannedEntry): (GrownFile & { readonly meta: SyncMeta }) | null {
    const before = this.#fileAt(found.path);
    if (before === undefined || before.entry.group !== 0 || found.linkCount > 1) return null;
    if (before.state?.ino !== found.ino || before.state.dev !== found.dev) return null;
    const grown = readTail(`${this.#root}/${found.path}`, before.entry.content);
    return grown === null ? null : { ...grown, meta: metaOf(this.#root, found) };
  }

  #append(path: string, grown: GrownFile & { readonly meta: SyncMeta }, batch: OutgoingBatch): void {
    const { keep, chunks, tail, content, meta, state } = grown;
    for (const piece of tail) batch.send(piece);
    const sent = tail.map(({ chunkId, raw }): [string, number] => [chunkId, raw.length]);
    batch.add({ op: 'append', path, meta, keep, chunks: [...chunks], tail: sent, size: content.size });
    this.#remember(path, state);
  }

  /** Moves what lay elsewhere and is now here, by its inode. */
  #renameTo(found: ScannedEntry, batch: OutgoingBatch): void {
    const { path } = found;
    const here = this.#tree.get(path);
    if (here !== undefined && (here.entry.type !== 'file' || found.type !== 'file' || here.state?.ino === found.ino)) {
      return;
    }
    for (const from of this.#tree.pathsOfInode(found)) {
      const node = this.#tree.get(from);
      if (from === path || node?.entry.type !== found.type || `${path}/`.startsWith(`${from}/`)) continue;
      // A file that was written to since is sent like any other.
      if (found.type === 'file' && (node.state?.size !== found.size || node.state.mtimeNs !== found.mtimeNs)) continue;
      if (this.#find(from) !== null || found.linkCount > 1) continue;
      batch.add({ op: 'rename', from, to: path });
      return;
    }
  }

  /** Other paths the standby has that are names of the same inode now. */
  #otherNames(path: string, state: KnownState): readonly string[] {
    const peers = new Set([
      ...this.#tree.pathsOfInode(state),
      ...this.#tree.pathsOfGroup(this.#fileAt(path)?.entry.group ?? 0),
    ]);
    peers.delete(path);
    return [...peers].filter((other) => {
      const found = this.#fileAt(other) === undefined ? null : this.#find(other);
      return found?.type === 'file' && found.ino === state.ino && found.dev === state.dev;
    });
  }

  #isTwin(twin: FileNode, file: ReadFile): boolean {
    return sameContent(twin.entry.content, file.content) && sameMeta(twin.entry.meta, file.meta);
  }

  #remember(path: string, state: KnownState): void {
    this.#tree.setState(path, state);
  }

  #fileAt(path: string): FileNode | undefined {
    const node = this.#tree.get(path);
    return node?.entry.type === 'file' ? (node as FileNode) : undefined;
  }

  /** Null for what is not there, and for what cannot be synchronized. */
  #find(path: string): ScannedEntry | null {
    const found = examine(this.#root, path, this.rules);
    return found === null || 'kind' in found ? null : found;
  }
}

function stateOf({ size, mtimeNs, ctimeNs, ino, dev }: ScannedEntry) {
  return { size, mtimeNs, ctimeNs, ino, dev };
}

function isSubset(some: readonly string[], all: readonly string[]): boolean {
  return some.every((one) => all.includes(one));
}

/** None when it is gone. */
function readNames(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
