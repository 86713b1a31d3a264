import { z } from 'zod';
import { agentVersionSchema } from '../model/agent-release.ts';
import { FAILOVER_STATES } from '../model/failover.ts';
import { newPolicySchema } from '../model/policy.ts';
import { snapshotRecordSchema } from '../protocol/snapshot-record.ts';
import { AGENT_ROLES } from '../model/instance.ts';
import { credentialSchema, instanceIdSchema, wallMsSchema, workspaceIdSchema } from '../protocol/primitives.ts';
import { BRANCH_ENDPOINTS } from './branch-endpoints.ts';
import { DETECTION_ENDPOINTS } from './detection.ts';
import type { Endpoint } from './endpoint.ts';
import { failoverReportSchema } from './failover-report.ts';
import { MACHINE_HISTORY_ENDPOINTS } from './machine-history.ts';
import { nothing, page, pageOf } from './paging.ts';
import { REGION_ENDPOINTS } from './region-endpoints.ts';
import { TEST_ENDPOINTS } from './test-endpoints.ts';
import {
  agentViewSchema,
  enrolmentViewSchema,
  eventViewSchema,
  instanceViewSchema,
  ledgerTotalsSchema,
  ledgerViewSchema,
  operationSummarySchema,
  operationViewSchema,
  snapshotViewSchema,
  workspaceViewSchema,
} from './views.ts';

const DEFAULT_GATEWAY_TOKEN_MS = 30 * 24 * 3_600_000;
/** A leaked token should not open a workspace for ever. */
const MAX_GATEWAY_TOKEN_MS = 366 * 24 * 3_600_000;
const accepted = z.object({ operationId: z.string(), workspaceId: z.string() });

/** 1–63 characters: letters, digits, `-`, `_` and `.`, starting with a letter or digit; also what a CLI user types. */
export const workspaceNameSchema = z
  .string()
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/,
    'must be 1 to 63 letters, digits, "-", "_" or ".", starting with a letter or digit',
  );

export const provisionBodySchema = z.strictObject({
  name: workspaceNameSchema.describe('Name of the new workspace, unique.'),
  policy: newPolicySchema.prefault({}),
  /** A snapshot already in the object store, made with `dumont-agent snapshot --workspace`; becomes the first head. */
  initial: z.strictObject({ workspaceId: workspaceIdSchema, snapshot: snapshotRecordSchema }).optional(),
});
export type ProvisionBody = z.infer<typeof provisionBodySchema>;

/** Whose agents are upgraded: exactly one of the three. */
export const upgradeBodySchema = z
  .strictObject({
    instanceId: z.string().min(1).optional(),
    workspace: z.string().min(1).optional(),
    all: z.literal(true).optional(),
    version: agentVersionSchema.optional().describe('The newest release by default.'),
    force: z.boolean().default(false).describe('Also to an older version, or to one that was rolled back there.'),
  })
  .refine(
    ({ instanceId, workspace, all }) => [instanceId, workspace, all].filter((each) => each !== undefined).length === 1,
    {
      error: 'needs exactly one of instanceId, workspace and all',
      path: ['instanceId'],
    },
  );
/** What an agent says to join with a one-time token. The credential is its own: it wrote it down before it asks. */
export const enrolBodySchema = z.strictObject({
  enrolToken: credentialSchema,
  credential: credentialSchema,
  hostname: z.string().max(255),
  agentVersion: z.string().min(1).max(64),
});
export type EnrolBody = z.infer<typeof enrolBodySchema>;

/** Who the agent is from now on. */
export const enrolAnswerSchema = z.object({
  instanceId: instanceIdSchema,
  role: z.enum(AGENT_ROLES),
  workspaceId: workspaceIdSchema,
});
export type EnrolAnswer = z.infer<typeof enrolAnswerSchema>;

export const addMachineBodySchema = z.strictObject({
  workspace: workspaceNameSchema.describe('Name of the new workspace, unique.'),
  policy: newPolicySchema.prefault({}),
});
export type AddMachineBody = z.infer<typeof addMachineBodySchema>;

export const LOSS_KINDS = ['kill', 'freeze', 'partition'] as const;
export type LossKind = (typeof LOSS_KINDS)[number];

/** The whole REST contract. `:workspace` accepts an id or a name. */
export const ENDPOINTS = {
  health: {
    method: 'GET',
    path: '/health',
    summary: 'Is the control plane up, and which version is it?',
    auth: false,
    successStatus: 200,
    query: nothing,
    body: nothing,
    response: z.object({
      ok: z.literal(true),
      version: z.string(),
      database: z.string(),
      connectedAgents: z.int(),
      uptimeMs: z.number(),
    }),
  },
  provision: {
    method: 'POST',
    path: '/provision',
    summary: 'Create a workspace and rent its first GPU machine.',
    auth: true,
    successStatus: 202,
    query: nothing,
    body: provisionBodySchema,
    response: accepted,
  },
  addMachine: {
    method: 'POST',
    path: '/machines',
    summary: 'Create a workspace on a machine of your own, which joins with the one-time token in the answer.',
    auth: true,
    successStatus: 201,
    query: nothing,
    body: addMachineBodySchema,
    response: accepted.extend({
      instanceId: z.string(),
      /** Shown this once: the control plane keeps its hash. */
      enrolToken: z.string(),
      expiresAtMs: wallMsSchema,
      /** To be run on the machine. */
      installCommand: z.string(),
    }),
  },
  enrol: {
    method: 'POST',
    path: '/enrol',
    summary:
      'Join with a one-time token: what an agent asks at its first start. Repeating it with the same credential answers the same.',
    auth: false,
    successStatus: 200,
    query: nothing,
    body: enrolBodySchema,
    response: enrolAnswerSchema,
  },
  listEnrolments: {
    method: 'GET',
    path: '/enrolments',
    summary: 'Machines that were given a token and have not joined, newest first.',
    auth: true,
    successStatus: 200,
    query: z.strictObject(page),
    body: nothing,
    response: pageOf(enrolmentViewSchema),
  },
  revokeEnrolment: {
    method: 'DELETE',
    path: '/enrolments/:instanceId',
    summary: "Make a machine's unused token worthless.",
    auth: true,
    successStatus: 200,
    query: nothing,
    body: nothing,
    response: z.object({ instanceId: z.string(), revoked: z.boolean() }),
  },
  listWorkspaces: {
    method: 'GET',
    path: '/workspaces',
    summary: 'All workspaces, by name.',
    auth: true,
    successStatus: 200,
    query: z.strictObject(page),
    body: nothing,
    response: pageOf(workspaceViewSchema),
  },
  getWorkspace: {
    method: 'GET',
    path: '/workspaces/:workspace',
    summary: 'One workspace.',
    auth: true,
    successStatus: 200,
    query: nothing,
    body: nothing,
    response: workspaceViewSchema,
  },
  createGatewayToken: {
    method: 'POST',
    path: '/workspaces/:workspace/gateway-token',
    summary: "A token for the workspace's HTTP address; revoke=true makes all earlier ones worthless.",
    auth: true,
    successStatus: 201,
    query: nothing,
    body: z.strictObject({
      validForMs: z.int().min(1_000).max(MAX_GATEWAY_TOKEN_MS).default(DEFAULT_GATEWAY_TOKEN_MS),
      revoke: z.boolean().default(false),
    }),
    response: z.object({
      token: z.string(),
      expiresAtMs: wallMsSchema,
      /** Opens the workspace in a browser and leaves the token there as a cookie; null without an HTTP port. */
      url: z.string().nullable(),
    }),
  },
  listInstances: {
    method: 'GET',
    path: '/instances',
    summary: 'Rented machines, newest first; those already gone only with all=true.',
    auth: true,
    successStatus: 200,
    query: z.strictObject({
      ...page,
      workspace: z.string().optional(),
      all: z.enum(['true', 'false']).default('false'),
    }),
    body: nothing,
    response: pageOf(instanceViewSchema),
  },
  getInstance: {
    method: 'GET',
    path: '/instances/:instanceId',
    summary: 'One rented machine.',
    auth: true,
    successStatus: 200,
    query: nothing,
    body: nothing,
    response: instanceViewSchema,
  },
  destroyInstance: {
    method: 'DELETE',
    path: '/instances/:instanceId',
    summary: 'Stop and destroy a machine; a primary is snapshotted first unless snapshot=false.',
    auth: true,
    successStatus: 202,
    query: z.strictObject({ snapshot: z.enum(['true', 'false']).default('true') }),
    body: nothing,
    response: accepted,
  },
  injectLoss: {
    method: 'POST',
    path: '/instances/:instanceId/loss',
    summary: 'Lose a machine of the local provider on purpose: kill, freeze or partition.',
    auth: true,
    successStatus: 200,
    query: nothing,
    body: z.strictObject({ kind: z.enum(LOSS_KINDS) }),
    response: z.object({ instanceId: z.string(), kind: z.enum(LOSS_KINDS), atMs: z.int() }),
  },
  listAgents: {
    method: 'GET',
    path: '/agents',
    summary: 'The agents of rented machines, newest machine first: version, and the upgrade under way.',
    auth: true,
    successStatus: 200,
    query: z.strictObject({ ...page, workspace: z.string().optional() }),
    body: nothing,
    response: pageOf(agentViewSchema).extend({ newestVersion: z.string().nullable() }),
  },
  upgradeAgents: {
    method: 'POST',
    path: '/agents/upgrade',
    summary: 'Bring agents to another version, a few at a time; workloads run on.',
    auth: true,
    successStatus: 202,
    query: nothing,
    body: upgradeBodySchema,
    response: z.object({
      version: z.string(),
      agents: z.array(
        z.object({
          instanceId: z.string(),
          outcome: z.enum(['ordered', 'current', 'refused']),
          reason: z.string().nullable(),
        }),
      ),
    }),
  },
  listSnapshots: {
    method: 'GET',
    path: '/snapshots',
    summary: 'Committed snapshots of a workspace, newest first.',
    auth: true,
    successStatus: 200,
    query: z.strictObject({ ...page, workspace: z.string().min(1) }),
    body: nothing,
    response: pageOf(snapshotViewSchema),
  },
  takeSnapshot: {
    method: 'POST',
    path: '/snapshots',
    summary: 'Snapshot a workspace now; answers when it is committed. Null: nothing changed since the head.',
    auth: true,
    successStatus: 201,
    query: nothing,
    body: z.strictObject({ workspace: z.string().min(1) }),
    response: z.object({ snapshot: snapshotViewSchema.nullable() }),
  },
  ...BRANCH_ENDPOINTS,
  triggerFailover: {
    method: 'POST',
    path: '/failovers',
    summary: 'Move a workspace to another machine now, without loss when the old one still answers.',
    auth: true,
    successStatus: 202,
    query: nothing,
    body: z.strictObject({ workspace: z.string().min(1), reason: z.string().max(500).default('asked by an operator') }),
    response: z.object({ failoverId: z.string(), workspaceId: z.string() }),
  },
  listFailovers: {
    method: 'GET',
    path: '/failovers',
    summary: 'Failover reports, newest first.',
    auth: true,
    successStatus: 200,
    query: z.strictObject({ ...page, workspace: z.string().optional(), state: z.enum(FAILOVER_STATES).optional() }),
    body: nothing,
    response: pageOf(failoverReportSchema),
  },
  getFailover: {
    method: 'GET',
    path: '/failovers/:failoverId',
    summary: 'State and steps of one failover.',
    auth: true,
    successStatus: 200,
    query: nothing,
    body: nothing,
    response: operationViewSchema,
  },
  getFailoverReport: {
    method: 'GET',
    path: '/failovers/:failoverId/report',
    summary: 'The report of one failover: every phase, what was restored, what it cost.',
    auth: true,
    successStatus: 200,
    query: nothing,
    body: nothing,
    response: failoverReportSchema,
  },
  ...TEST_ENDPOINTS,
  ...DETECTION_ENDPOINTS,
  listOperations: {
    method: 'GET',
    path: '/operations',
    summary: 'Operations, newest first, without their steps.',
    auth: true,
    successStatus: 200,
    query: z.strictObject({
      ...page,
      workspace: z.string().optional(),
      kind: z.enum(['provision', 'failover', 'release', 'standby', 'provider-test', 'failover-test']).optional(),
    }),
    body: nothing,
    response: pageOf(operationSummarySchema),
  },
  getOperation: {
    method: 'GET',
    path: '/operations/:operationId',
    summary: 'State and steps of any operation.',
    auth: true,
    successStatus: 200,
    query: nothing,
    body: nothing,
    response: operationViewSchema,
  },
  listLedger: {
    method: 'GET',
    path: '/ledger',
    summary: 'Every machine asked for, until proven gone; closed rows only with all=true.',
    auth: true,
    successStatus: 200,
    query: z.strictObject({ ...page, all: z.enum(['true', 'false']).default('false') }),
    body: nothing,
    response: pageOf(ledgerViewSchema).extend({ totals: ledgerTotalsSchema }),
  },
  ...MACHINE_HISTORY_ENDPOINTS,
  listEvents: {
    method: 'GET',
    path: '/events/history',
    summary: 'Past events, oldest first, after a given event id.',
    auth: true,
    successStatus: 200,
    query: z.strictObject({
      limit: page.limit,
      after: z.coerce.number<number | string>().int().min(0).default(0),
      workspace: z.string().optional(),
    }),
    body: nothing,
    response: z.object({ items: z.array(eventViewSchema) }),
  },
  ...REGION_ENDPOINTS,
} as const satisfies Record<string, Endpoint>;

export type EndpointName = keyof typeof ENDPOINTS;

/** Server-sent events, outside the table because it streams: `?after=<eventId>&workspace=<id or name>`, Last-Event-ID resumes. */
export const EVENT_STREAM_PATH = '/events';
