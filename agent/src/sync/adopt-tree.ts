import type { SenderSession } from './sender-session.ts';
import type { SyncTree } from './sync-tree.ts';

/**
 * Makes a tree what the standby's is, asking only for the parts in which the two differ.
 * @param mayRescan has the standby read its folder first, because what it knew did not help
 * @returns every path that was not the same
 */
export async function adoptTree(
  session: SenderSession,
  tree: SyncTree,
  mayRescan: boolean,
): Promise<readonly string[]> {
  if (mayRescan) await session.rescan();
  const buckets = tree.differingBuckets(await session.compare());
  const listed = new Map(await session.list(buckets));
  const differing = new Set<string>();
  for (const path of tree.pathsIn(buckets)) {
    if (listed.has(path)) continue;
    tree.delete(path);
    differing.add(path);
  }
  for (const [path, entry] of listed) {
    tree.set(path, { entry, state: null });
    differing.add(path);
  }
  return [...differing];
}
