import { z } from 'zod';
import { AGENT_ROLES, STANDINGS } from '../model/instance.ts';
import { ERROR_CODES } from '../util/errors.ts';
import { workloadSchema } from '../model/policy.ts';
import { chunkAssignmentSchema } from './chunk-serving.ts';
import { credentialSchema, epochSchema, instanceIdSchema, workspaceIdSchema } from './primitives.ts';
import { snapshotRefSchema } from './snapshot-record.ts';
import { storageGrantSchema } from './storage-grant.ts';
import { syncAssignmentSchema } from './sync.ts';

/** How the last attempt to install another version of this agent ended; told once. */
export const lastUpgradeSchema = z.object({
  from: z.string().max(64),
  to: z.string().max(64),
  outcome: z.enum(['upgraded', 'rolled-back']),
  reason: z.string().max(1_000).optional(),
});
export type LastUpgrade = z.infer<typeof lastUpgradeSchema>;

/** First message of an agent on a fresh socket. */
export const helloSchema = z.object({
  kind: z.literal('hello'),
  protocolVersion: z.int().min(1).max(1_000),
  agentVersion: z.string().min(1).max(64),
  instanceId: instanceIdSchema,
  role: z.enum(AGENT_ROLES),
  /** The agent's secret, drawn by itself when it enrolled. */
  credential: credentialSchema,
  /** Changes with every start of the agent process. */
  bootId: z.string().min(8).max(64),
  /** The newest epoch this agent ever heard for its workspace; 0 when it heard none. */
  lastEpoch: epochSchema,
  hostname: z.string().max(255),
  cpuCount: z.int().min(1).max(65_536),
  memoryBytes: z.int().min(0),
  /** It is installed where it can install another version of itself. */
  upgradable: z.boolean().optional(),
  lastUpgrade: lastUpgradeSchema.optional(),
});
export type Hello = z.infer<typeof helloSchema>;

/** A quarter of a year; timers of 32 bits do not reach farther than a quarter of that, so they are armed in parts. */
export const MAX_CREDENTIAL_ROTATE_MS = 7_776_000_000;

/** What a primary publishes and when, and what every agent does by the clock. */
export const agentPolicySchema = z.object({
  heartbeatIntervalMs: z.int().min(20).max(60_000),
  snapshotIntervalMs: z.int().min(250).max(86_400_000),
  /** Age at which the agent replaces its credential, ms; absent: never. */
  credentialRotateMs: z.int().min(1_000).max(MAX_CREDENTIAL_ROTATE_MS).optional(),
});

/** The workspace as the agent must see it now. */
export const assignmentSchema = z.object({
  workspaceId: workspaceIdSchema,
  epoch: epochSchema,
  standing: z.enum(STANDINGS),
  policy: agentPolicySchema,
  /**
   * Null: the agent may not use the store (fenced, unless what it held is being harvested), or there is no grant at this
   * moment; then one comes by `assign`.
   */
  storage: storageGrantSchema.nullable(),
  /** The newest committed snapshot, null when there is none. */
  head: snapshotRefSchema.nullable(),
  workload: workloadSchema.nullable(),
  /** This machine's part in continuous sync; absent: none. */
  sync: syncAssignmentSchema.optional(),
  /** Chunks that this machine serves to, or gets from, another one while the workspace is moved; absent: none. */
  chunks: chunkAssignmentSchema.optional(),
});
export type Assignment = z.infer<typeof assignmentSchema>;

/** Answer to hello. Sent again, unasked, whenever the assignment changes (`assign`). */
export const welcomeSchema = z.object({
  kind: z.literal('welcome'),
  sessionId: z.string().min(1).max(64),
  /** Control plane's wall clock, so that the agent can report its skew. */
  nowMs: z.int(),
  assignment: assignmentSchema,
});

export const assignSchema = z.object({ kind: z.literal('assign'), assignment: assignmentSchema });

/** Last message before the control plane closes a socket it will not serve. */
export const refusedSchema = z.object({
  kind: z.literal('refused'),
  code: z.enum(ERROR_CODES),
  message: z.string().max(1_000),
  hint: z.string().max(1_000).optional(),
  field: z.string().max(200).optional(),
});
export type Refused = z.infer<typeof refusedSchema>;
