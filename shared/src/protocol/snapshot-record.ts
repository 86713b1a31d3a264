import { z } from 'zod';
import { countSchema, snapshotIdSchema, wallMsSchema } from './primitives.ts';

/** Where a snapshot's manifest lies and what it must hash to: enough for any agent to restore it. */
export const snapshotRefSchema = z.object({
  snapshotId: snapshotIdSchema,
  manifestKey: z.string().min(1).max(1_024),
  /** Lower-case hex BLAKE3-256 of the stored manifest object. */
  manifestHash: z.string().regex(/^[0-9a-f]{64}$/),
});
export type SnapshotRef = z.infer<typeof snapshotRefSchema>;

/** What the snapshotter measured; the numbers of the report (requirement B4). */
export const snapshotRecordSchema = snapshotRefSchema.extend({
  parentId: snapshotIdSchema.nullable(),
  /** Wall time before the first file was looked at: everything written earlier is inside. */
  startedAtMs: wallMsSchema,
  createMs: z.number().min(0),
  fileCount: countSchema,
  /** Sum of file sizes. */
  totalBytes: countSchema,
  /** Bytes of chunks the store did not have. */
  newBytes: countSchema,
  /** Bytes uploaded for them, packs and manifest. */
  storedBytes: countSchema,
  /** Paths that changed while being read, at most 100 of them. */
  tornPaths: z.array(z.string().max(4_096)).max(100),
});
export type SnapshotRecord = z.infer<typeof snapshotRecordSchema>;
