import { z } from 'zod';
import type { AgentRole } from './instance.ts';

/** How long mere silence lasts, from the last sign of life, before the old primary is fenced; hard evidence fences at once. */
export const COMMIT_DELAY_MS = { fast: 3_000, balanced: 6_000, cautious: 10_000 } as const;
export const detectModeSchema = z.enum(['fast', 'balanced', 'cautious']);
export type DetectMode = z.infer<typeof detectModeSchema>;

export const strategySchema = z.enum(['race', 'coldstart']);
export type StrategyName = z.infer<typeof strategySchema>;

/** The user's command and how to keep it running. Commands run by `/bin/sh -c` in the workspace folder. */
export const workloadSchema = z.strictObject({
  command: z.string().min(1).max(8_192).describe('Shell command, run in the workspace folder.'),
  postRestore: z
    .string()
    .min(1)
    .max(8_192)
    .optional()
    .describe('Shell command run after a restore, before the workload.'),
  restart: z.boolean().default(true).describe('Start it again when it exits with an error.'),
});
export type Workload = z.infer<typeof workloadSchema>;

/** What a machine may cost and be. Requirement C4; every default can be changed per workspace. */
export const offerPolicySchema = z.strictObject({
  maxPriceMicroUsdPerHour: z.int().positive().default(1_000_000).describe('Price cap, micro-dollars per hour.'),
  minReliability: z.number().min(0).max(1).default(0.9).describe('Least reliability, 0 to 1.'),
  minDiskGb: z.number().positive().default(20).describe('Least disk, GB.'),
  gpuNames: z.array(z.string().min(1)).max(64).default([]).describe('Acceptable GPU names; empty: any.'),
  allowRegions: z.array(z.string().min(1)).max(64).default([]).describe('Acceptable regions; empty: any.'),
  denyRegions: z.array(z.string().min(1)).max(64).default([]).describe('Regions never used.'),
});
export type OfferPolicy = z.infer<typeof offerPolicySchema>;

/** What of the workload is reached from outside, through the gateway. */
export const workspacePortsSchema = z.strictObject({
  http: z.int().min(1).max(65_535).optional().describe('Port on which the workload serves HTTP and WebSocket.'),
  public: z.boolean().default(false).describe('Let everybody in to the HTTP address, without a gateway token.'),
});

export type WorkspacePorts = z.infer<typeof workspacePortsSchema>;

/** A second, cheap machine that keeps a copy of the workspace a fraction of a second behind the primary. */
export const standbyPolicySchema = z.strictObject({
  enabled: z.boolean().default(false).describe('Keep a standby machine.'),
  maxPriceMicroUsdPerHour: z.int().positive().default(100_000).describe('Its price cap, micro-dollars per hour.'),
  trustAfterMs: z
    .int()
    .min(0)
    .max(86_400_000)
    .default(0)
    .describe('Users are sent to it only once it has been up this long, ms.'),
  command: z
    .string()
    .min(1)
    .max(8_192)
    .optional()
    .describe('Shell command run on it while users work there; without a GPU.'),
});
export type StandbyPolicy = z.infer<typeof standbyPolicySchema>;

export const workspacePolicySchema = z.strictObject({
  strategy: strategySchema.default('race'),
  raceWidth: z.int().min(1).max(5).default(3).describe('Machines rented at once by the race strategy.'),
  detectMode: detectModeSchema.default('fast'),
  snapshotIntervalMs: z
    .int()
    .min(250)
    .max(86_400_000)
    .default(30_000)
    .describe('Time between snapshots while dirty, ms.'),
  offers: offerPolicySchema.prefault({}),
  workload: workloadSchema.optional(),
  ports: workspacePortsSchema.prefault({}),
  standby: standbyPolicySchema.prefault({}),
});
export type WorkspacePolicy = z.infer<typeof workspacePolicySchema>;
/** As a caller writes it: every defaulted field may be left out. */
export type WorkspacePolicyInput = z.input<typeof workspacePolicySchema>;

/** What a machine of this role runs while it is the workspace's primary; null: nothing. Pure. */
export function workloadOf(policy: Pick<WorkspacePolicy, 'workload' | 'standby'>, role: AgentRole): Workload | null {
  if (role === 'gpu') return policy.workload ?? null;
  const { command } = policy.standby;
  return command === undefined ? null : { command, restart: true };
}
