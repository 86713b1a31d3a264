import {
  MAX_LISTED_BYTES,
  MAX_LISTED_PATHS,
  type BranchChange,
  type BranchSummary,
} from '@dumont/shared/protocol/branch.ts';
import { isSameNode, type Tree } from './tree.ts';

const NS_PER_MS = 1_000_000n;

/** What differs in a snapshot from its base, newest first, what is gone last. Pure. */
export function summarize(base: Tree, branch: Tree): BranchSummary {
  const changes: BranchChange[] = [];
  let changedBytes = 0;
  for (const [path, node] of branch) {
    const before = base.get(path);
    if (isSameNode(before, node)) continue;
    changedBytes += node.sizeBytes;
    changes.push({
      path,
      change: before === undefined ? 'added' : 'changed',
      sizeBytes: node.type === 'file' ? node.sizeBytes : null,
      modifiedAtMs: Number(node.mtimeNs / NS_PER_MS),
    });
  }
  for (const path of base.keys()) {
    if (!branch.has(path)) changes.push({ path, change: 'deleted', sizeBytes: null, modifiedAtMs: null });
  }
  const count = (kind: BranchChange['change']) => changes.filter(({ change }) => change === kind).length;
  const newestFirst = changes.toSorted((a, b) => (b.modifiedAtMs ?? -Infinity) - (a.modifiedAtMs ?? -Infinity) || 0);
  return {
    addedCount: count('added'),
    changedCount: count('changed'),
    deletedCount: count('deleted'),
    changedBytes,
    changes: listed(newestFirst),
  };
}

/** As many as fit into a message; the others are only counted. Pure. */
export function listed<Item extends { readonly path: string }>(items: readonly Item[]): Item[] {
  const some: Item[] = [];
  let bytes = 0;
  for (const item of items) {
    bytes += Buffer.byteLength(item.path);
    if (some.length === MAX_LISTED_PATHS || bytes > MAX_LISTED_BYTES) break;
    some.push(item);
  }
  return some;
}
