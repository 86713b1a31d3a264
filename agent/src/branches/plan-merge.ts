import type { MergeStrategy } from '@dumont/shared/model/branch.ts';
import { isSameNode, type Tree, type TreeNode } from './tree.ts';

/** What to do about one path that differs in the branch. */
export interface MergeStep {
  readonly path: string;
  readonly action: 'take' | 'beside' | 'same' | 'keep' | 'delete';
}

export interface MergeRequest {
  /** The last snapshot before the branch. */
  readonly base: Tree;
  readonly branch: Tree;
  /** The workspace as it is now. */
  readonly workspace: Tree;
  readonly strategy: MergeStrategy;
  /** Files, or folders with all below them; everything when absent. */
  readonly paths?: readonly string[] | undefined;
}

/**
 * Decides what a merge does, ascending by path. What only the branch changed is taken; what both changed goes by the
 * strategy; where a folder and something else meet, the branch's goes beside. Nothing is deleted but with `theirs`. Pure.
 */
export function planMerge({ base, branch, workspace, strategy, paths }: MergeRequest): readonly MergeStep[] {
  const isMeant = pathFilter(paths);
  const differing = [...branch].filter(([path, node]) => isMeant(path) && !isSameNode(base.get(path), node));
  const gone = [...base.keys()].filter((path) => isMeant(path) && !branch.has(path));
  const steps = [
    ...differing.map(([path, theirs]): MergeStep => {
      const ours = workspace.get(path);
      return { path, action: actionFor({ theirs, ours, before: base.get(path), strategy }) };
    }),
    ...gone.map((path): MergeStep => {
      if (!workspace.has(path)) return { path, action: 'same' };
      return { path, action: strategy === 'theirs' ? 'delete' : 'keep' };
    }),
  ];
  return steps.sort((a, b) => (a.path < b.path ? -1 : 1));
}

function actionFor(facts: {
  readonly theirs: TreeNode;
  readonly ours: TreeNode | undefined;
  readonly before: TreeNode | undefined;
  readonly strategy: MergeStrategy;
}): MergeStep['action'] {
  const { theirs, ours, before, strategy } = facts;
  if (isSameNode(theirs, ours)) return 'same';
  // A file of ours stays; what the branch has in a folder of that name finds its own place.
  if (theirs.type === 'dir') return ours === undefined ? 'take' : 'keep';
  if (ours?.type === 'dir') return strategy === 'ours' ? 'keep' : 'beside';
  if (isSameNode(ours, before)) return 'take';
  return actionInConflict(strategy, theirs.mtimeNs, ours?.mtimeNs ?? null);
}

/** For a file that both sides changed. Pure. @param oursNs when the workspace's was modified; null when it was deleted */
export function actionInConflict(
  strategy: MergeStrategy,
  theirsNs: bigint,
  oursNs: bigint | null,
): 'take' | 'beside' | 'keep' {
  switch (strategy) {
    case 'theirs':
      return 'take';
    case 'ours':
      return 'keep';
    case 'newest':
      // A deletion has no time.
      return oursNs === null || theirsNs > oursNs ? 'take' : 'keep';
    case 'side-by-side':
      return 'beside';
  }
}

function pathFilter(paths: readonly string[] | undefined): (path: string) => boolean {
  if (paths === undefined) return () => true;
  const wanted = new Set(paths.map((path) => path.replace(/\/+$/, '')));
  return (path) => {
    for (let end = path.length; end > 0; end = path.lastIndexOf('/', end - 1)) {
      if (wanted.has(path.slice(0, end))) return true;
    }
    return false;
  };
}
