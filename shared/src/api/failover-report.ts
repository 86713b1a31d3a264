import { z } from 'zod';
import { BRANCH_STATES } from '../model/branch.ts';
import { FAILOVER_STATES } from '../model/failover.ts';
import { checkReportSchema } from '../model/workload-check.ts';
import { restoreResultSchema } from '../protocol/command.ts';
import { countSchema, wallMsSchema } from '../protocol/primitives.ts';
import { placementScoreSchema } from './machine-history.ts';

const machineSchema = z.object({
  instanceId: z.string(),
  provider: z.string(),
  machineId: z.string(),
  gpuName: z.string(),
  region: z.string(),
  priceMicroUsdPerHour: countSchema,
});

/**
 * What one failover did, how long each phase took and what it cost: a view of the stored steps (requirement B4), the
 * same for REST, CLI, dashboard and notifications.
 */
export const failoverReportSchema = z.object({
  failoverId: z.string(),
  workspaceId: z.string(),
  workspaceName: z.string(),
  state: z.enum(FAILOVER_STATES),
  /** Null while it runs. */
  success: z.boolean().nullable(),
  /** `standby`: users were left on the standby by an earlier failover, nothing was lost now. */
  trigger: z.enum(['detector', 'operator', 'preempted', 'standby', 'unserved']),
  reason: z.string(),
  evidence: z.array(
    z.object({ kind: z.string(), hard: z.boolean(), atMs: wallMsSchema, detail: z.string().optional() }),
  ),
  /** Last sign of life of the old primary; the origin of every duration below. */
  silenceBeganAtMs: wallMsSchema,
  /** Silence begins → loss confirmed. */
  detectMs: z.number(),
  /** Time spent in each phase, all attempts together; null when it was not reached. */
  phases: z.object({
    detectMs: z.number(),
    searchMs: z.number().nullable(),
    provisionMs: z.number().nullable(),
    restoreMs: z.number().nullable(),
    commitMs: z.number().nullable(),
    resumeMs: z.number().nullable(),
    switchMs: z.number().nullable(),
    releaseMs: z.number().nullable(),
  }),
  /** Silence begins → users are switched to the running replacement; null until then. */
  totalMs: z.number().nullable(),
  /** Replacement committed → the gateway had an answer from it; null until then, and where nothing answers. */
  gatewayMs: z.number().nullable(),
  /**
   * Age of the restored state when the silence began: what was written in this window is lost. 0 when nothing is: there
   * was no machine, it handed over in good order, or it serves on. How far the standby was behind, where users went on
   * there. Null without a snapshot.
   */
  rpoMs: z.number().nullable(),
  /** Size of what was changed in that window, at most; null where nobody knows. */
  rpoBytes: countSchema.nullable(),
  /** The time on the standby; null without one, and until the old epoch was fenced. */
  standby: z
    .object({
      instanceId: z.string(),
      /**
       * `not-used`: nobody was sent to it. `serves`: users work there. `handed-over`: all they did there is on the
       * replacement. `lost`: it was lost before that.
       */
      outcome: z.enum(['not-used', 'serves', 'handed-over', 'lost']),
      /** Why it was not used. */
      reason: z.string().nullable(),
      /** Silence begins → it was primary and users were sent to it. Null when the failover found them there. */
      takeoverMs: z.number().nullable(),
      /** It was primary → the gateway had an answer from it; null until then, and where nothing answers. */
      gatewayMs: z.number().nullable(),
      /** How long it was primary; null while it is. */
      servedMs: z.number().nullable(),
      /** How far its copy was behind when the old primary was last heard: what was lost. */
      behindMs: z.number().nullable(),
      /** Its work was stopped → the replacement was primary, with everything. Null unless handed over. */
      pauseMs: z.number().nullable(),
    })
    .nullable(),
  /** What the old machine still held and had not published, kept for the user to merge. */
  branches: z.array(
    z.object({
      branchId: z.string(),
      instanceId: z.string(),
      state: z.enum(BRANCH_STATES),
      addedCount: countSchema,
      changedCount: countSchema,
      deletedCount: countSchema,
      changedBytes: countSchema,
    }),
  ),
  epoch: countSchema.nullable(),
  from: machineSchema.nullable(),
  to: machineSchema.nullable(),
  snapshot: z
    .object({
      snapshotId: z.string(),
      seq: z.int(),
      totalBytes: countSchema,
      newBytes: countSchema,
      storedBytes: countSchema,
      /** New raw bytes per stored byte; null when nothing new was stored. */
      compressionRatio: z.number().nullable(),
      storage: z.string(),
      createMs: z.number(),
      startedAtMs: wallMsSchema,
      committedAtMs: wallMsSchema,
    })
    .nullable(),
  restore: restoreResultSchema.omit({ snapshotId: true }).extend({ snapshotId: z.string() }).nullable(),
  /** What came of the workload's check on the replacement; null where it has none, and until it was made. */
  check: checkReportSchema.nullable(),
  workloadResumedAtMs: wallMsSchema.nullable(),
  attempts: z.int(),
  /** Why the replacement's offer was chosen; null without one, and for a machine that its owner brought. */
  placement: z
    .object({
      score: placementScoreSchema,
      /** What the policy prefers and nobody offered. */
      widened: z.array(z.enum(['gpuNames', 'regions', 'price'])),
    })
    .nullable(),
  /** Machines rented for this failover that did not win. */
  loserInstanceIds: z.array(z.string()),
  /** What they cost until the end of the failover, micro-dollars. */
  loserCostMicroUsd: countSchema,
  /** Replacement and losers from their rental to the end of the failover, micro-dollars. */
  costMicroUsd: countSchema,
  startedAtMs: wallMsSchema,
  finishedAtMs: wallMsSchema.nullable(),
  error: z.string().nullable(),
});
export type FailoverReport = z.infer<typeof failoverReportSchema>;
