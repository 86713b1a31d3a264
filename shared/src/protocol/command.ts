import { z } from 'zod';
import { agentReleaseSchema, agentVersionSchema } from '../model/agent-release.ts';
import { mergeStrategySchema } from '../model/branch.ts';
import { checkpointReportSchema } from '../model/checkpoints.ts';
import { checkReportSchema } from '../model/workload-check.ts';
import { ERROR_CODES } from '../util/errors.ts';
import { branchSummarySchema, MAX_MERGE_PATHS, mergeResultSchema } from './branch.ts';
import { WORKLOAD_STATES } from './heartbeat.ts';
import { branchIdSchema, commandIdSchema, countSchema, epochSchema } from './primitives.ts';
import { snapshotRecordSchema, snapshotRefSchema } from './snapshot-record.ts';
import { TRIAL_ACTIONS, TRIAL_RESULTS } from './trial.ts';

/**
 * What the control plane may ask of an agent. Every action is idempotent: the same command id again gives the first
 * outcome again. Who is primary is not a command but the assignment.
 */
export const actionSchema = z.discriminatedUnion('name', [
  /** Take and commit a snapshot now. Result: the record, or null when nothing changed since the head. */
  z.object({ name: z.literal('snapshot') }),
  /**
   * Make the workspace folder equal to this snapshot, set half-written checkpoints aside, run the post-restore hook. With
   * `bare`, the first of these only.
   */
  z.object({ name: z.literal('restore'), snapshot: snapshotRefSchema, bare: z.boolean().optional() }),
  /**
   * Start the assignment's workload; succeeds once it has stayed up for `stableMs`. With `check`, the workload's own check
   * is made after that, where it has one; what comes of it is part of the result. Refused unless primary.
   */
  z.object({
    name: z.literal('start-workload'),
    stableMs: z.int().min(0).max(600_000),
    check: z.boolean().optional(),
  }),
  /** Run the pre-stop hook, then end the workload. */
  z.object({ name: z.literal('stop-workload'), graceMs: z.int().min(0).max(600_000) }),
  /**
   * Store what the folder holds as a snapshot on top of `base`, which nobody makes the head. For a fenced instance, whose
   * workload is stopped; refused to any other. Result: the record, or null when nothing differs from the base.
   */
  z.object({ name: z.literal('harvest'), epoch: epochSchema, base: snapshotRefSchema.nullable() }),
  /**
   * Bring what differs in a branch from its base into the folder, then snapshot it. Refused unless primary. Repeating it
   * changes nothing more.
   */
  z.object({
    name: z.literal('merge-branch'),
    branchId: branchIdSchema,
    branch: snapshotRefSchema,
    base: snapshotRefSchema.nullable(),
    strategy: mergeStrategySchema,
    /** Files, or folders with all below them; absent: everything. */
    paths: z.array(z.string().min(1).max(4_096)).max(MAX_MERGE_PATHS).optional(),
  }),
  /**
   * Install another version of the agent and restart as it, leaving the workload alone. Refused by an agent that is not
   * installed (`hello.upgradable`), and for an older version without `force`.
   */
  z.object({
    name: z.literal('upgrade'),
    release: agentReleaseSchema,
    /** Where the release's files lie: a URL, or a path of the control plane as this agent reaches it. Ends with `/`. */
    downloadUrl: z
      .string()
      .max(2_048)
      .regex(/^(?:https?:\/\/.+|\/.*)\/$/, 'must be an http(s) URL or an absolute path, ending with "/"'),
    force: z.boolean().default(false),
  }),
  ...TRIAL_ACTIONS,
]);
export type Action = z.infer<typeof actionSchema>;

export const restoreResultSchema = z.object({
  snapshotId: snapshotRefSchema.shape.snapshotId,
  fileCount: countSchema,
  /** Bytes written to files. */
  bytesWritten: countSchema,
  /** Bytes fetched from the object store. */
  bytesFetched: countSchema,
  /** Bytes that came from the workspace's standby instead; absent from agents that do not say. */
  bytesFromPeer: countSchema.optional(),
  totalMs: z.number().min(0),
  /** Sums over parallel work, so they may exceed totalMs. */
  downloadMs: z.number().min(0),
  decompressMs: z.number().min(0),
  hookMs: z.number().min(0),
  /** From the start until what is restored first, where patterns name any, and until everything was in its place. */
  readyMs: z.object({ priority: z.number().min(0).nullable(), all: z.number().min(0) }).optional(),
  /** What there was to resume from; absent where it was not looked for, as in a workspace without a workload. */
  checkpoints: checkpointReportSchema.optional(),
});
export type RestoreResult = z.infer<typeof restoreResultSchema>;

export const actionResultSchema = z.discriminatedUnion('name', [
  z.object({ name: z.literal('snapshot'), record: snapshotRecordSchema.nullable() }),
  z.object({ name: z.literal('restore'), restore: restoreResultSchema }),
  z.object({
    name: z.literal('start-workload'),
    state: z.enum(WORKLOAD_STATES),
    pid: z.int().nullable(),
    /** Absent when none was asked for, or the workload has none. */
    check: checkReportSchema.optional(),
  }),
  z.object({ name: z.literal('stop-workload'), state: z.enum(WORKLOAD_STATES) }),
  z.object({
    name: z.literal('harvest'),
    record: snapshotRecordSchema.nullable(),
    summary: branchSummarySchema.nullable(),
  }),
  z.object({ name: z.literal('merge-branch'), merge: mergeResultSchema }),
  /** Sent before the restart; equal versions when there was nothing to do. */
  z.object({ name: z.literal('upgrade'), from: agentVersionSchema, to: agentVersionSchema }),
  ...TRIAL_RESULTS,
]);
export type ActionResult = z.infer<typeof actionResultSchema>;

export const commandSchema = z.object({ kind: z.literal('command'), commandId: commandIdSchema, action: actionSchema });
export type Command = z.infer<typeof commandSchema>;

/** Sent as soon as the command is understood, before the work. */
export const commandAckSchema = z.object({ kind: z.literal('command-ack'), commandId: commandIdSchema });
export type CommandAck = z.infer<typeof commandAckSchema>;

/** At most twice a second while the work runs. */
export const commandProgressSchema = z.object({
  kind: z.literal('command-progress'),
  commandId: commandIdSchema,
  doneBytes: countSchema,
  totalBytes: countSchema,
  doneFiles: countSchema,
  totalFiles: countSchema,
});
export type CommandProgress = z.infer<typeof commandProgressSchema>;

export const commandResultSchema = z.object({
  kind: z.literal('command-result'),
  commandId: commandIdSchema,
  outcome: z.discriminatedUnion('ok', [
    z.object({ ok: z.literal(true), result: actionResultSchema }),
    z.object({
      ok: z.literal(false),
      code: z.enum(ERROR_CODES),
      message: z.string().max(4_000),
      retryable: z.boolean(),
    }),
  ]),
});
export type CommandResult = z.infer<typeof commandResultSchema>;
