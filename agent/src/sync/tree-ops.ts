import type { SyncContent, SyncOp } from '@dumont/shared/protocol/sync.ts';
import { assert, must } from '@dumont/shared/util/assert.ts';
import type { SyncTree, TreeNode } from './sync-tree.ts';

type FileNode = TreeNode & { readonly entry: Extract<TreeNode['entry'], { type: 'file' }> };

/**
 * What an operation does to a tree: the same on both sides, so that their hashes stay equal. The states of what changed
 * become unknown, but for a rename, which keeps inodes.
 * @param content of a staged file
 * @returns every path that changed
 */
export function applyToTree(tree: SyncTree, op: SyncOp, content?: SyncContent): readonly string[] {
  switch (op.op) {
    case 'dir':
      return put(tree, op.path, { type: 'dir', meta: op.meta });
    case 'symlink':
      return put(tree, op.path, { type: 'symlink', meta: op.meta, target: op.target });
    case 'file':
    case 'staged': {
      const whole = op.op === 'file' ? op.content : must(content, 'a staged file has its content');
      const entry = { type: 'file', meta: op.meta, content: whole, group: op.group } as const;
      return [op.path, ...op.links].flatMap((path) => put(tree, path, { ...entry }));
    }
    case 'append': {
      const { entry } = fileAt(tree, op.path);
      const chunks = [...entry.content.chunks.slice(0, op.keep), ...op.chunks];
      return put(tree, op.path, { ...entry, meta: op.meta, content: { size: op.size, chunks, holes: [] } });
    }
    case 'meta': {
      const { entry } = fileAt(tree, op.path);
      const names = entry.group === 0 ? [op.path] : tree.pathsOfGroup(entry.group);
      return names.flatMap((path) => put(tree, path, { ...fileAt(tree, path).entry, meta: op.meta }));
    }
    case 'link': {
      const { entry } = fileAt(tree, op.target);
      return [op.target, op.path].flatMap((path) => put(tree, path, { ...entry, group: op.group }));
    }
    case 'rename':
      return rename(tree, op.from, op.to);
    case 'delete': {
      const gone = [op.path, ...tree.below(op.path)];
      for (const path of gone.toReversed()) tree.delete(path);
      return gone;
    }
  }
}

/** The file at a path of a tree that is known to have one. */
export function fileAt(tree: SyncTree, path: string): FileNode {
  const node = tree.get(path);
  assert(node?.entry.type === 'file', `${path} is a file`);
  return node as FileNode;
}

function put(tree: SyncTree, path: string, entry: TreeNode['entry']): readonly string[] {
  tree.set(path, { entry, state: null });
  return [path];
}

function rename(tree: SyncTree, from: string, to: string): readonly string[] {
  const moved = [from, ...tree.below(from)].map((path) => [path, must(tree.get(path), 'it is listed')] as const);
  for (const [path] of moved.toReversed()) tree.delete(path);
  const arrived = moved.map(([path, node]) => {
    const at = to + path.slice(from.length);
    tree.set(at, node);
    return at;
  });
  return [...moved.map(([path]) => path), ...arrived];
}
