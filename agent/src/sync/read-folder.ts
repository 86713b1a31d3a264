import { lstatSync, rmSync } from 'node:fs';
import { basename } from 'node:path';
import { setImmediate as letOthersRun } from 'node:timers/promises';
import type { SyncMeta } from '@dumont/shared/protocol/sync.ts';
import { hasMetadata, type MetadataOptions } from '../restore/metadata.ts';
import { TEMP_FILE_PREFIX, type IgnoreRules } from '../workspace/ignore.ts';
import { sameFileState, scanWorkspace, type ScannedEntry } from '../workspace/scan.ts';
import { readXattrs } from '../workspace/xattrs.ts';
import type { ContentReader } from './file-content.ts';
import { SyncTree, type TreeNode } from './sync-tree.ts';

/** A standby's folder holds only what was synchronized or restored into it, so nothing is left out but our own leftovers. */
const NOTHING_IGNORED: IgnoreRules = { ignores: () => false };
/** Files read before others get their turn. */
const FILES_PER_TURN = 64;

export interface FolderToRead extends MetadataOptions {
  readonly root: string;
  readonly reader: ContentReader;
  readonly signal: AbortSignal;
}

/**
 * The tree that a folder holds. Reads the files that `known` does not vouch for, and removes half-written files of ours.
 * @param known what an earlier process knew; held against the folder
 */
export async function readFolder(folder: FolderToRead, known: ReadonlyMap<string, TreeNode>): Promise<SyncTree> {
  const { root, reader, signal } = folder;
  const { entries } = await scanWorkspace(root, NOTHING_IGNORED, { signal });
  const tree = new SyncTree();
  let filesRead = 0;
  for (const found of entries) {
    if (basename(found.path).startsWith(TEMP_FILE_PREFIX)) {
      rmSync(`${root}/${found.path}`, { recursive: true, force: true });
      continue;
    }
    const before = known.get(found.path);
    if (before !== undefined && isAsKnown(folder, before, found)) {
      tree.set(found.path, before);
      continue;
    }
    const node = nodeOf(found, { tree, reader, root });
    if (node !== null) tree.set(found.path, node);
    filesRead += found.type === 'file' ? 1 : 0;
    if (filesRead % FILES_PER_TURN !== FILES_PER_TURN - 1) continue;
    await letOthersRun();
    signal.throwIfAborted();
  }
  return tree;
}

/** Metadata of what lies at a path. */
export function metaOf(root: string, found: ScannedEntry): SyncMeta {
  const { mode, uid, gid, mtimeNs, path, type } = found;
  const xattrs = type === 'symlink' ? undefined : readXattrs(`${root}/${path}`);
  const meta = { mode, uid, gid, mtimeNs: String(mtimeNs) };
  return xattrs === undefined ? meta : { ...meta, xattrs: xattrs.map(([name, value]) => [name, value]) };
}

function isAsKnown(folder: FolderToRead, { entry, state }: TreeNode, found: ScannedEntry): boolean {
  if (entry.type !== found.type) return false;
  // Changing a file in any way changes its ctime.
  if (entry.type === 'file') return state !== null && sameFileState(state, found);
  if (entry.type === 'symlink' && entry.target !== found.linkTarget) return false;
  const path = `${folder.root}/${found.path}`;
  const stats = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  return stats !== undefined && hasMetadata(path, stats, { type: entry.type, ...entry.meta }, folder);
}

/** Null for what cannot be read. */
function nodeOf(
  found: ScannedEntry,
  { tree, reader, root }: { readonly tree: SyncTree; readonly reader: ContentReader; readonly root: string },
): TreeNode | null {
  const meta = metaOf(root, found);
  if (found.type === 'dir') return { entry: { type: 'dir', meta }, state: null };
  if (found.type === 'symlink') return { entry: { type: 'symlink', meta, target: found.linkTarget }, state: null };
  const [twin] = found.linkCount > 1 ? tree.pathsOfInode(found) : [];
  const same = twin === undefined ? undefined : tree.get(twin);
  if (same !== undefined) return same;
  const read = reader.read(`${root}/${found.path}`);
  if (read.kind !== 'read') return null;
  const group = found.linkCount > 1 ? tree.freshGroup() : 0;
  return { entry: { type: 'file', meta, content: read.content, group }, state: read.state };
}
