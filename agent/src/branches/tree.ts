import type { Entry, Manifest } from '@dumont/shared/format/manifest.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { hashHex } from '../snapshot/chunk-codec.ts';

/** A path of a snapshot as branches look at it. */
export interface TreeNode {
  readonly type: 'file' | 'dir' | 'symlink';
  /** Equal exactly where type, content and mode are; a folder's is only its type. */
  readonly identity: string;
  /** Of a file, else 0. */
  readonly sizeBytes: number;
  readonly mtimeNs: bigint;
}

export type Tree = ReadonlyMap<string, TreeNode>;

/** The paths of a snapshot, ascending; a hard link is the file it leads to. Pure. */
export function treeOf(manifest: Manifest | null): Tree {
  const tree = new Map<string, TreeNode>();
  const links: (readonly [path: string, target: string])[] = [];
  for (const entry of manifest?.entries ?? []) {
    if (entry.type === 'hardlink') links.push([entry.path, entry.target]);
    else tree.set(entry.path, nodeOf(entry, must(manifest, 'it has entries')));
  }
  for (const [path, target] of links) {
    tree.set(path, must(tree.get(target), 'a checked manifest links to files only'));
  }
  return links.length === 0 ? tree : new Map([...tree].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** True when nothing but times may differ; two paths that are not there are the same. Pure. */
export function isSameNode(a: TreeNode | undefined, b: TreeNode | undefined): boolean {
  return a?.identity === b?.identity;
}

function nodeOf(entry: Exclude<Entry, { type: 'hardlink' }>, manifest: Manifest): TreeNode {
  const mtimeNs = BigInt(entry.mtimeNs);
  if (entry.type === 'dir') return { type: 'dir', identity: 'dir', sizeBytes: 0, mtimeNs };
  if (entry.type === 'symlink') {
    return { type: 'symlink', identity: `symlink ${entry.target}`, sizeBytes: 0, mtimeNs };
  }
  const { mode, size, chunks, holes, torn } = entry;
  const chunkIds = chunks.map((row) => must(manifest.chunks[row], 'a checked manifest uses listed chunks only')[0]);
  // Hashed: the list of a large file's chunks takes megabytes.
  const content = hashHex(new TextEncoder().encode(JSON.stringify([size, chunkIds, holes ?? [], torn === true])));
  return { type: 'file', identity: `file ${mode} ${content}`, sizeBytes: size, mtimeNs };
}
