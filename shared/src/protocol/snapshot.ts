import { z } from 'zod';
import { epochSchema } from './primitives.ts';
import { snapshotRecordSchema, snapshotRefSchema } from './snapshot-record.ts';

/** A primary asks to make an uploaded snapshot the workspace's head: compare-and-swap on (epoch, parent). */
export const snapshotCommitSchema = z.object({
  kind: z.literal('snapshot-commit'),
  requestId: z.string().min(1).max(64),
  epoch: epochSchema,
  snapshot: snapshotRecordSchema,
});
export type SnapshotCommit = z.infer<typeof snapshotCommitSchema>;

/** Asking again for a snapshot that is already committed answers `committed`. */
export const snapshotVerdictSchema = z.object({
  kind: z.literal('snapshot-verdict'),
  requestId: z.string().min(1).max(64),
  verdict: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('committed'), seq: z.int().min(1) }),
    /** The agent is fenced: it must stop publishing. */
    z.object({ kind: z.literal('stale-epoch'), epoch: epochSchema }),
    /** Take the head as parent and snapshot again. */
    z.object({ kind: z.literal('stale-parent'), head: snapshotRefSchema.nullable() }),
  ]),
});
export type SnapshotVerdict = z.infer<typeof snapshotVerdictSchema>;
