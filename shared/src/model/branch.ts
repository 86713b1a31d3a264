import { z } from 'zod';

/**
 * The life of a branch: what a fenced machine held that no snapshot of its workspace does.
 * - `open`: nobody has merged all of it
 * - `merged`: all of it was merged at least once; it can be merged again
 * - `deleted`: by a user or by its age; its files are removed from the object store
 */
export const BRANCH_STATES = ['open', 'merged', 'deleted'] as const;
export type BranchState = (typeof BRANCH_STATES)[number];

/** What became of a path since the branch's base. */
export const BRANCH_CHANGES = ['added', 'changed', 'deleted'] as const;

/**
 * What a merge does with a path that both the branch and the workspace changed since the base.
 * - `side-by-side`: the branch's file is put beside the workspace's, under another name
 * - `newest`: the one modified last stays
 * - `theirs`: the branch's; the only strategy that also deletes what the branch had deleted
 * - `ours`: the workspace's
 */
export const mergeStrategySchema = z.enum(['side-by-side', 'newest', 'theirs', 'ours']);
export type MergeStrategy = z.infer<typeof mergeStrategySchema>;

/** What a merge did with a path that differs in the branch. */
export const MERGE_OUTCOMES = [
  'taken', // the branch's file has its name now
  'beside', // it was put beside the workspace's
  'same', // the workspace had it already
  'kept', // the workspace's stays
  'deleted', // removed, as the branch had removed it
] as const;
export type MergeOutcome = (typeof MERGE_OUTCOMES)[number];
