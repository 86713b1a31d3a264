import { z } from 'zod';
import type { SnapshotId } from '@dumont/shared/model/ids.ts';
import { offerSchema } from '@dumont/shared/model/offer.ts';
import { checkReportSchema } from '@dumont/shared/model/workload-check.ts';
import { restoreResultSchema } from '@dumont/shared/protocol/command.ts';
import { commandIdSchema, instanceIdSchema, snapshotIdSchema } from '@dumont/shared/protocol/primitives.ts';

/**
 * What an operation that puts a workspace on a machine knows so far; stored with it, so that any control-plane process
 * can go on from any step.
 */
export const moveDataSchema = z.object({
  /** Only for a machine that its owner brings: until when it is waited for, wall ms. No other takes its place. */
  ownMachineUntilMs: z.int().nullable().default(null),
  /** Machines that were tried and failed. */
  attempts: z.int().default(0),
  /** Ranked shortlist of the last search. */
  offers: z.array(offerSchema).default([]),
  /** Hosts this operation does not try again. */
  excludedMachineIds: z.array(z.string()).default([]),
  /** Hosts taken only when no other fits: the one that is being left. */
  avoidedMachineIds: z.array(z.string()).default([]),
  /** The machine being prepared. */
  replacement: z.object({ instanceId: instanceIdSchema, machineId: z.string() }).nullable().default(null),
  /** Machines to give back before the next search. */
  discarded: z.array(instanceIdSchema).default([]),
  restoredSnapshotId: snapshotIdSchema.nullable().default(null),
  /** Sums over all restores of this operation. */
  restore: restoreResultSchema.nullable().default(null),
  restoreCommandId: commandIdSchema.nullable().default(null),
  startCommandId: commandIdSchema.nullable().default(null),
  workloadResumedAtMs: z.int().nullable().default(null),
  /** What came of the workload's check; null where it has none, and until it was made. */
  check: checkReportSchema.nullable().default(null),
  /** Why the workload did not come up or does not serve, when it does not. */
  workloadError: z.string().nullable().default(null),
});
export type MoveData = z.infer<typeof moveDataSchema>;

/** The replacement did not work out: give it back, do not use its host again, forget what was done on it. Pure. */
export function discardReplacement<Data extends MoveData>(data: Data): Data {
  const { replacement } = data;
  return {
    ...data,
    attempts: data.attempts + 1,
    replacement: null,
    discarded: replacement === null ? data.discarded : [...data.discarded, replacement.instanceId],
    excludedMachineIds:
      replacement === null ? data.excludedMachineIds : [...data.excludedMachineIds, replacement.machineId],
    restoredSnapshotId: null,
    restoreCommandId: null,
    startCommandId: null,
    workloadResumedAtMs: null,
    check: null,
  };
}

export function withRestored<Data extends MoveData>(
  data: Data,
  snapshotId: SnapshotId | null,
  result: MoveData['restore'],
): Data {
  return {
    ...data,
    restoredSnapshotId: snapshotId,
    restoreCommandId: null,
    restore: addRestores(data.restore, result),
  };
}

function addRestores(before: MoveData['restore'], latest: MoveData['restore']): MoveData['restore'] {
  if (before === null || latest === null) return latest ?? before;
  return {
    snapshotId: latest.snapshotId,
    fileCount: latest.fileCount,
    bytesWritten: before.bytesWritten + latest.bytesWritten,
    bytesFetched: before.bytesFetched + latest.bytesFetched,
    bytesFromPeer: (before.bytesFromPeer ?? 0) + (latest.bytesFromPeer ?? 0),
    totalMs: before.totalMs + latest.totalMs,
    downloadMs: before.downloadMs + latest.downloadMs,
    decompressMs: before.decompressMs + latest.decompressMs,
    hookMs: before.hookMs + latest.hookMs,
    // What the last one left is what the workload resumes from.
    checkpoints: latest.checkpoints,
  };
}
