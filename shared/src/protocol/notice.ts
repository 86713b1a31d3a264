import { z } from 'zod';
import { countSchema, snapshotIdSchema } from './primitives.ts';

/** What an agent does for the workload on the side, so that it may go wrong without anything else failing. */
export const SOFT_ERROR_SOURCES = ['pre-snapshot', 'post-snapshot', 'pre-stop', 'checkpoints'] as const;
export type SoftErrorSource = (typeof SOFT_ERROR_SOURCES)[number];

/** Listed at most, the newest first. */
export const MAX_UNSAFE_PATHS = 50;

/** Who says that the machine goes: Google's metadata server, or whoever sent the agent SIGTERM. */
export const LEAVE_SOURCES = ['gcp', 'sigterm'] as const;
export type LeaveSource = (typeof LEAVE_SOURCES)[number];

/**
 * What is safe of all that was in no snapshot when the machine was told to go. A file is safe when a committed snapshot
 * holds it as it is now; of an unsafe one, the snapshots hold an older version or none.
 */
export const lastWordsSchema = z.object({
  safeFiles: countSchema,
  safeBytes: countSchema,
  /** Null when the files are not known one by one: then nothing is known to be safe. */
  unsafeFiles: countSchema.nullable(),
  unsafeBytes: countSchema.nullable(),
  unsafePaths: z.array(z.string().max(4_096)).max(MAX_UNSAFE_PATHS),
  /** What the standby does not have; null without one. At 0 it has everything, also what no snapshot holds. */
  standbyBehindBytes: countSchema.nullable(),
  /** The newest snapshot committed for it; null when there was none. */
  snapshotId: snapshotIdSchema.nullable(),
  tookMs: z.number().min(0),
});
export type LastWords = z.infer<typeof lastWordsSchema>;

/** Something an agent has to say unasked. Each is an event of the history; none is answered. */
export const noticeSchema = z.object({
  kind: z.literal('notice'),
  notice: z.discriminatedUnion('type', [
    /** It went on all the same. Told when it begins to fail, not each time. */
    z.object({ type: z.literal('soft-error'), source: z.enum(SOFT_ERROR_SOURCES), message: z.string().max(2_000) }),
    /** The machine, or the agent on it, ends within this time. */
    z.object({ type: z.literal('leaving'), source: z.enum(LEAVE_SOURCES), withinMs: z.int().min(0).max(3_600_000) }),
    /** What could be saved after that. */
    z.object({ type: z.literal('last-words'), words: lastWordsSchema }),
  ]),
});
export type Notice = z.infer<typeof noticeSchema>['notice'];
