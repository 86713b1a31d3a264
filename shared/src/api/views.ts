import { z } from 'zod';
import { BRANCH_STATES } from '../model/branch.ts';
import { AGENT_ROLES, INSTANCE_STATES, STANDINGS } from '../model/instance.ts';
import { workspacePolicySchema } from '../model/policy.ts';
import { branchSummarySchema } from '../protocol/branch.ts';
import { WORKLOAD_STATES } from '../protocol/heartbeat.ts';
import { countSchema, wallMsSchema } from '../protocol/primitives.ts';
import { snapshotRecordSchema } from '../protocol/snapshot-record.ts';

/** What the API shows. Times are wall milliseconds since the epoch, money micro-dollars, durations milliseconds. */

export const workspaceViewSchema = z.object({
  workspaceId: z.string(),
  name: z.string(),
  epoch: countSchema,
  primaryInstanceId: z.string().nullable(),
  /** What users are pointed at. */
  endpointInstanceId: z.string().nullable(),
  /** What kind of machine is primary: the GPU machine, or the standby while one is sought; null while nobody is. */
  servedBy: z.enum(AGENT_ROLES).nullable(),
  headSnapshotId: z.string().nullable(),
  /** Committed when the head was; null without a snapshot. */
  headCommittedAtMs: wallMsSchema.nullable(),
  /** The unfinished operation that moves this workspace, if any. */
  operationId: z.string().nullable(),
  /** Where users reach the workspace, whichever machine serves it; each null where there is no such address. */
  gateway: z.object({
    ssh: z.object({ host: z.string(), port: z.int() }).nullable(),
    /** Ends in `/`; HTTP and WebSocket. */
    http: z.string().nullable(),
  }),
  /** The machine that keeps a copy; null while there is none. What it lacks is null until it had everything once. */
  standby: z
    .object({
      instanceId: z.string(),
      state: z.enum(INSTANCE_STATES),
      behindBytes: countSchema.nullable(),
      behindMs: z.number().nullable(),
    })
    .nullable(),
  policy: workspacePolicySchema,
  createdAtMs: wallMsSchema,
});
export type WorkspaceView = z.infer<typeof workspaceViewSchema>;

/** The detector's word on an instance; null when it is not watched. */
export const LIVENESS = ['grace', 'alive', 'suspect', 'confirmed', 'committed'] as const;

export const instanceViewSchema = z.object({
  instanceId: z.string(),
  workspaceId: z.string(),
  workspaceName: z.string(),
  role: z.enum(AGENT_ROLES),
  state: z.enum(INSTANCE_STATES),
  standing: z.enum(STANDINGS),
  connected: z.boolean(),
  liveness: z.enum(LIVENESS).nullable(),
  workload: z.enum(WORKLOAD_STATES).nullable(),
  /** Age of the oldest change not in a committed snapshot (live RPO), ms. */
  unsavedMs: z.number().nullable(),
  /** Size of the files with such changes, bytes; null while that is not known. */
  unsavedBytes: countSchema.nullable(),
  provider: z.string(),
  providerRef: z.string().nullable(),
  machineId: z.string(),
  gpuName: z.string(),
  region: z.string(),
  priceMicroUsdPerHour: countSchema,
  costMicroUsd: countSchema,
  requestedAtMs: wallMsSchema,
  readyAtMs: wallMsSchema.nullable(),
  goneAtMs: wallMsSchema.nullable(),
});
export type InstanceView = z.infer<typeof instanceViewSchema>;

export const UPGRADE_STATES = ['waiting', 'running', 'failed'] as const;

/** The agent on a machine: which version runs, and which is to. */
export const agentViewSchema = z.object({
  instanceId: z.string(),
  workspaceId: z.string(),
  workspaceName: z.string(),
  role: z.enum(AGENT_ROLES),
  connected: z.boolean(),
  /** Null while it is not connected. */
  version: z.string().nullable(),
  /** It can install another version of itself; null while it is not connected. */
  upgradable: z.boolean().nullable(),
  /** What is planned or failed lately; null when neither. */
  upgrade: z.object({ to: z.string(), state: z.enum(UPGRADE_STATES), error: z.string().nullable() }).nullable(),
});
export type AgentView = z.infer<typeof agentViewSchema>;
/** A token that was given out and not used; never the token itself. */
export const enrolmentViewSchema = z.object({
  instanceId: z.string(),
  workspaceId: z.string(),
  provider: z.string(),
  createdAtMs: wallMsSchema,
  /** In the past: nobody can use it any more. */
  expiresAtMs: wallMsSchema,
});
export type EnrolmentView = z.infer<typeof enrolmentViewSchema>;

export const snapshotViewSchema = snapshotRecordSchema.omit({ snapshotId: true, parentId: true }).extend({
  snapshotId: z.string(),
  parentId: z.string().nullable(),
  workspaceId: z.string(),
  seq: z.int(),
  epoch: countSchema,
  instanceId: z.string().nullable(),
  storage: z.string(),
  committedAtMs: wallMsSchema,
  isHead: z.boolean(),
});
export type SnapshotView = z.infer<typeof snapshotViewSchema>;

/** What a fenced machine held that no snapshot of its workspace does. */
export const branchViewSchema = branchSummarySchema.omit({ changes: true }).extend({
  branchId: z.string(),
  workspaceId: z.string(),
  workspaceName: z.string(),
  /** The machine that wrote it, and the epoch at which that was primary. */
  instanceId: z.string(),
  epoch: countSchema,
  /** The last snapshot before it; what differs from that is the branch. Null: everything. */
  baseSnapshotId: z.string().nullable(),
  snapshotId: z.string(),
  state: z.enum(BRANCH_STATES),
  createdAtMs: wallMsSchema,
  /** When it is deleted unless somebody does so before. */
  expiresAtMs: wallMsSchema,
  mergedAtMs: wallMsSchema.nullable(),
  deletedAtMs: wallMsSchema.nullable(),
});
export type BranchView = z.infer<typeof branchViewSchema>;

/** With what differs, newest first; the counts tell when there is more than is listed. */
export const branchDetailViewSchema = branchViewSchema.extend({ changes: branchSummarySchema.shape.changes });
export type BranchDetailView = z.infer<typeof branchDetailViewSchema>;

export const stepViewSchema = z.object({
  step: z.string(),
  startedAtMs: wallMsSchema,
  endedAtMs: wallMsSchema.nullable(),
  durationMs: z.number().nullable(),
  outcome: z.string().nullable(),
  detail: z.record(z.string(), z.unknown()),
});
export type StepView = z.infer<typeof stepViewSchema>;

export const operationViewSchema = z.object({
  operationId: z.string(),
  kind: z.string(),
  workspaceId: z.string().nullable(),
  state: z.string(),
  finished: z.boolean(),
  error: z.string().nullable(),
  createdAtMs: wallMsSchema,
  updatedAtMs: wallMsSchema,
  finishedAtMs: wallMsSchema.nullable(),
  steps: z.array(stepViewSchema),
});
export type OperationView = z.infer<typeof operationViewSchema>;

/** An operation as a list shows it. */
export const operationSummarySchema = operationViewSchema.omit({ steps: true });
export type OperationSummary = z.infer<typeof operationSummarySchema>;

export const ledgerViewSchema = z.object({
  instanceId: z.string(),
  provider: z.string(),
  label: z.string(),
  providerRef: z.string().nullable(),
  priceMicroUsdPerHour: countSchema,
  costMicroUsd: countSchema,
  requestedAtMs: wallMsSchema,
  rentedAtMs: wallMsSchema.nullable(),
  releaseAskedAtMs: wallMsSchema.nullable(),
  goneConfirmations: z.int(),
  goneAtMs: wallMsSchema.nullable(),
  outcome: z.string().nullable(),
});
export type LedgerView = z.infer<typeof ledgerViewSchema>;

/** Of all rows ever, whichever page is shown. */
export const ledgerTotalsSchema = z.object({
  costMicroUsd: countSchema,
  /** Machines wanted gone for a minute and more that no provider has denied twice. */
  orphanCount: countSchema,
  /** What machines cost from when nobody wanted them until they were proven gone: orphan dollars. */
  orphanMicroUsd: countSchema,
});
export type LedgerTotals = z.infer<typeof ledgerTotalsSchema>;

/** One line of history; `eventId` grows, so a client can resume after the last it saw. */
export const eventViewSchema = z.object({
  eventId: countSchema,
  atMs: wallMsSchema,
  type: z.string(),
  workspaceId: z.string().nullable(),
  instanceId: z.string().nullable(),
  operationId: z.string().nullable(),
  data: z.record(z.string(), z.unknown()),
});
export type EventView = z.infer<typeof eventViewSchema>;
