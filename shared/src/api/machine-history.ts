import { z } from 'zod';
import { countSchema, wallMsSchema } from '../protocol/primitives.ts';
import type { Endpoint } from './endpoint.ts';

/** What an hour on an offer was expected to cost when it was ordered, and why; micro-dollars per hour. */
export const placementScoreSchema = z.object({
  priceMicroUsdPerHour: countSchema,
  /** Chance that the machine does not come up or is taken away, by the provider's figure and our own history. */
  expectedLoss: z.number().min(0).max(1),
  lossMicroUsd: countSchema,
  /** Time to fetch the workspace at the host's download rate. */
  restoreS: z.number().min(0),
  restoreMicroUsd: countSchema,
  /** Round trip to plan with to the standby; null without one. */
  standbyRttMs: z.number().min(0).nullable(),
  distanceMicroUsd: countSchema,
  /** Their sum: the least is the best. */
  totalMicroUsd: countSchema,
});
export type PlacementScore = z.infer<typeof placementScoreSchema>;

/** What the machines that we rented on one host came to. Durations are means, ms, null without one. */
export const machineHistoryViewSchema = z.object({
  provider: z.string(),
  machineId: z.string(),
  gpuName: z.string(),
  /** Orders that the provider took. */
  rented: countSchema,
  /** Of these: came up; did not; were lost after they had. */
  ready: countSchema,
  failed: countSchema,
  interrupted: countSchema,
  /** Share that came up of those waited for, and its Wilson bounds with 80 % confidence; null while none was. */
  successRate: z.number().nullable(),
  successLower: z.number(),
  successUpper: z.number(),
  /** Order → the provider says that it runs. */
  bootMs: z.number().nullable(),
  /** It runs → SSH let us in → the agent's hello; where the agent was installed over SSH. */
  sshMs: z.number().nullable(),
  installMs: z.number().nullable(),
  /** Order → the agent's hello. */
  helloMs: z.number().nullable(),
  lastFailure: z.string().nullable(),
  lastSeenAtMs: wallMsSchema,
  /** No machine is ordered there until then; null when it may be. */
  blacklistedUntilMs: wallMsSchema.nullable(),
});
export type MachineHistoryView = z.infer<typeof machineHistoryViewSchema>;

/** Its part of the table of endpoints. */
export const MACHINE_HISTORY_ENDPOINTS = {
  listMachineHistory: {
    method: 'GET',
    path: '/machines/history',
    summary: 'How the machines on each host did in the last 90 days, the one last seen first.',
    auth: true,
    successStatus: 200,
    query: z.strictObject({
      limit: z.coerce.number<number | string>().int().min(1).max(500).default(100),
      machine: z.string().min(1).max(200).optional(),
    }),
    body: z.strictObject({}),
    response: z.object({ items: z.array(machineHistoryViewSchema) }),
  },
  forgetMachineHistory: {
    method: 'POST',
    path: '/machines/history/forget',
    summary: "Strike out a host's past, so that it is tried again.",
    auth: true,
    successStatus: 200,
    query: z.strictObject({}),
    body: z.strictObject({
      machine: z.string().min(1).max(200).describe('The host.'),
      provider: z.string().min(1).max(64).optional().describe("Its provider; absent: every provider's host so named."),
    }),
    response: z.object({ forgotten: countSchema }),
  },
} as const satisfies Record<string, Endpoint>;
