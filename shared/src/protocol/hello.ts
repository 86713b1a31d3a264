import { z } from 'zod';
import { AGENT_ROLES, STANDINGS } from '../model/instance.ts';
import { ERROR_CODES } from '../util/errors.ts';
import { workloadSchema } from '../model/policy.ts';
import { epochSchema, instanceIdSchema, workspaceIdSchema } from './primitives.ts';
import { snapshotRefSchema } from './snapshot-record.ts';
import { storageGrantSchema } from './storage-grant.ts';
import { syncAssignmentSchema } from './sync.ts';

/** First message of an agent on a fresh socket. */
export const helloSchema = z.object({
  kind: z.literal('hello'),
  protocolVersion: z.int().min(1).max(1_000),
  agentVersion: z.string().min(1).max(64),
  instanceId: instanceIdSchema,
  role: z.enum(AGENT_ROLES),
  token: z.string().min(16).max(256),
  /** Changes with every start of the agent process. */
  bootId: z.string().min(8).max(64),
  /** The newest epoch this agent ever heard for its workspace; 0 when it heard none. */
  lastEpoch: epochSchema,
  hostname: z.string().max(255),
  cpuCount: z.int().min(1).max(65_536),
  memoryBytes: z.int().min(0),
});
export type Hello = z.infer<typeof helloSchema>;

/** What a primary publishes and when. */
export const agentPolicySchema = z.object({
  heartbeatIntervalMs: z.int().min(20).max(60_000),
  snapshotIntervalMs: z.int().min(250).max(86_400_000),
});

/** The workspace as the agent must see it now. */
export const assignmentSchema = z.object({
  workspaceId: workspaceIdSchema,
  epoch: epochSchema,
  standing: z.enum(STANDINGS),
  policy: agentPolicySchema,
  storage: storageGrantSchema,
  /** The newest committed snapshot, null when there is none. */
  head: snapshotRefSchema.nullable(),
  workload: workloadSchema.nullable(),
  /** This machine's part in continuous sync; absent: none. */
  sync: syncAssignmentSchema.optional(),
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
