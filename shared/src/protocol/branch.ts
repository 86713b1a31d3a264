import { z } from 'zod';
import { BRANCH_CHANGES, MERGE_OUTCOMES } from '../model/branch.ts';
import { countSchema, snapshotIdSchema } from './primitives.ts';

/** Paths that travel and are stored one by one, besides the counts: a list that people read, not the branch itself. */
export const MAX_LISTED_PATHS = 1_000;
/** All of a list's paths together, UTF-8: a command's result fits into one message. */
export const MAX_LISTED_BYTES = 262_144;
/** Paths one merge may be limited to: they travel in the command. */
export const MAX_MERGE_PATHS = 256;

const pathSchema = z.string().min(1).max(4_096);

export const branchChangeSchema = z.object({
  path: pathSchema,
  change: z.enum(BRANCH_CHANGES),
  /** Of the file in the branch; null for what is deleted or no file. */
  sizeBytes: countSchema.nullable(),
  /** When it was modified, wall ms; null for what is deleted. */
  modifiedAtMs: z.number().nullable(),
});
export type BranchChange = z.infer<typeof branchChangeSchema>;

/** How a snapshot differs from its base in content, type or mode; times alone are no difference. */
export const branchSummarySchema = z.object({
  addedCount: countSchema,
  changedCount: countSchema,
  deletedCount: countSchema,
  /** Sizes of the files that were added or changed. */
  changedBytes: countSchema,
  /** Newest first, what is deleted last; at most {@link MAX_LISTED_PATHS}. */
  changes: z.array(branchChangeSchema).max(MAX_LISTED_PATHS),
});
export type BranchSummary = z.infer<typeof branchSummarySchema>;

export const mergedPathSchema = z.object({
  path: pathSchema,
  outcome: z.enum(MERGE_OUTCOMES),
  /** Where it lies now, for `beside`. */
  as: pathSchema.optional(),
});
export type MergedPath = z.infer<typeof mergedPathSchema>;

export const mergeResultSchema = z.object({
  /** Of each outcome, how many paths. */
  counts: z.record(z.enum(MERGE_OUTCOMES), countSchema),
  bytesWritten: countSchema,
  /** What was not simply taken comes first; at most {@link MAX_LISTED_PATHS}. */
  paths: z.array(mergedPathSchema).max(MAX_LISTED_PATHS),
  /** The head that holds the workspace as it was before. */
  snapshotBefore: snapshotIdSchema.nullable(),
  /** The one that holds it as it is now; null when the merge changed nothing. */
  snapshotAfter: snapshotIdSchema.nullable(),
});
export type MergeResult = z.infer<typeof mergeResultSchema>;
