import { z } from 'zod';
import { countSchema } from '../protocol/primitives.ts';

/** Which files are checkpoints, and what becomes of those that are not whole. */
export const checkpointPolicySchema = z.strictObject({
  pattern: z
    .string()
    .min(1)
    .max(1_024)
    .optional()
    .describe('Which files are checkpoints, in gitignore syntax; absent: by their names.'),
  onIncomplete: z
    .enum(['set-aside', 'keep'])
    .default('set-aside')
    .describe(
      'What becomes of half-written ones before the workload resumes: renamed to <name>.incomplete, or nothing.',
    ),
});
export type CheckpointPolicy = z.infer<typeof checkpointPolicySchema>;

/** Listed at most, newest first; the counts tell of all. */
export const MAX_LISTED_CHECKPOINTS = 20;

const pathSchema = z.string().max(4_096);

/** The checkpoints of a workspace folder; paths are relative to it. */
export const checkpointReportSchema = z.object({
  /** The newest whole one: a file, or a folder of files that make up one; null when there is none. */
  latest: pathSchema.nullable(),
  completeCount: countSchema,
  incompleteCount: countSchema,
  incomplete: z
    .array(z.object({ path: pathSchema, reason: z.string().max(500), setAsideAs: pathSchema.nullable() }))
    .max(MAX_LISTED_CHECKPOINTS),
});
export type CheckpointReport = z.infer<typeof checkpointReportSchema>;
