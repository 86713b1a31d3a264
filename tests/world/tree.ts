import { createHash } from 'node:crypto';
import {
  chmod,
  link,
  lstat,
  lutimes,
  mkdir,
  readdir,
  readFile,
  readlink,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { isSameTime } from '@dumont/agent/snapshot/draft.ts';

/** One thing to put on a disk. Folders above it are made. */
export type TreeNode =
  | { readonly kind: 'file'; readonly content: Uint8Array; readonly mode?: number; readonly mtimeMs?: number }
  | { readonly kind: 'dir'; readonly mode?: number; readonly mtimeMs?: number }
  | { readonly kind: 'symlink'; readonly target: string }
  | { readonly kind: 'hardlink'; readonly target: string };

/** Makes the tree below `root`; folders get their mode and time last. */
export async function makeTree(root: string, tree: Readonly<Record<string, TreeNode>>): Promise<void> {
  const nodes = Object.entries(tree).toSorted(([a], [b]) => (a < b ? -1 : 1));
  for (const [path, node] of nodes) {
    const at = join(root, path);
    await mkdir(node.kind === 'dir' ? at : dirname(at), { recursive: true });
    if (node.kind === 'file') {
      await writeFile(at, node.content);
      await chmod(at, node.mode ?? 0o644);
      await utimes(at, seconds(node.mtimeMs), seconds(node.mtimeMs));
    }
    if (node.kind === 'symlink') {
      await symlink(node.target, at);
      await lutimes(at, seconds(undefined), seconds(undefined));
    }
  }
  for (const [path, node] of nodes) if (node.kind === 'hardlink') await link(join(root, node.target), join(root, path));
  for (const [path, node] of nodes.toReversed()) {
    if (node.kind !== 'dir') continue;
    await chmod(join(root, path), node.mode ?? 0o755);
    await utimes(join(root, path), seconds(node.mtimeMs), seconds(node.mtimeMs));
  }
}

function seconds(ms = 1_700_000_000_123.456): number {
  return ms / 1_000;
}

export interface SeenNode {
  readonly kind: string;
  readonly mode: string;
  readonly mtimeNs: bigint;
  readonly content: string;
  /** Paths of the same inode, for files with several. */
  readonly links: string;
}

/** What lies below `root`, links not followed; compare with {@link differences}. */
export async function seeTree(root: string): Promise<Map<string, SeenNode>> {
  const seen = new Map<string, SeenNode>();
  const inodes = new Map<bigint, string[]>();
  const folders = [''];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    for (const name of await readdir(join(root, folder))) {
      const path = folder === '' ? name : `${folder}/${name}`;
      const at = join(root, path);
      const stats = await lstat(at, { bigint: true });
      const kind = stats.isFile() ? 'file' : stats.isDirectory() ? 'dir' : stats.isSymbolicLink() ? 'symlink' : 'other';
      let content = '';
      if (kind === 'file') {
        content = createHash('sha256')
          .update(await readFile(at))
          .digest('hex');
        inodes.set(stats.ino, [...(inodes.get(stats.ino) ?? []), path].toSorted());
      }
      if (kind === 'symlink') content = await readlink(at);
      if (kind === 'dir') folders.push(path);
      const mode = kind === 'symlink' ? '' : (stats.mode & 0o7777n).toString(8);
      seen.set(path, { kind, mode, mtimeNs: stats.mtimeNs, content, links: String(stats.ino) });
    }
  }
  for (const [path, node] of seen) {
    seen.set(path, { ...node, links: (inodes.get(BigInt(node.links)) ?? []).join('|') });
  }
  return seen;
}

/** What tells two trees apart, one line per path; times may differ by less than a microsecond. */
export function differences(a: Map<string, SeenNode>, b: Map<string, SeenNode>): readonly string[] {
  const lines: string[] = [];
  for (const path of new Set([...a.keys(), ...b.keys()])) {
    const one = a.get(path);
    const other = b.get(path);
    if (one === undefined || other === undefined)
      lines.push(`${path}: only in the ${one === undefined ? 'second' : 'first'}`);
    else {
      for (const field of ['kind', 'mode', 'content', 'links'] as const) {
        if (one[field] !== other[field]) lines.push(`${path}: ${field} ${one[field]} / ${other[field]}`);
      }
      if (!isSameTime(one.mtimeNs, other.mtimeNs)) lines.push(`${path}: mtime ${one.mtimeNs} / ${other.mtimeNs}`);
    }
  }
  return lines;
}
