import { z } from 'zod';
import { checkpointPolicySchema } from './checkpoints.ts';
import type { AgentRole } from './instance.ts';
import { workloadCheckSchema } from './workload-check.ts';

/**
 * How long mere silence lasts, from the last sign of life, before the old primary is fenced; hard evidence fences at once.
 * `adaptive` chooses between the least and the most of them by what the machine's host has done before.
 */
export const COMMIT_DELAY_MS = { fast: 3_000, balanced: 6_000, cautious: 10_000 } as const;
/**
 * The same where only the control plane lost the machine: an outage of one path looks like a death, lasts longer than a
 * frozen machine, and no second vantage point tells the two apart. `fast` prefers its promise to being right.
 */
export const LONE_COMMIT_DELAY_MS = { fast: 3_000, balanced: 12_000, cautious: 20_000 } as const;
export const detectModeSchema = z.enum(['fast', 'balanced', 'cautious', 'adaptive']);
export type DetectMode = z.infer<typeof detectModeSchema>;

export const strategySchema = z.enum(['race', 'coldstart', 'roundrobin']);
export type StrategyName = z.infer<typeof strategySchema>;

/** Time for one hook but `postRestore`: the workload, or a move, waits for it. */
const DEFAULT_HOOK_TIMEOUT_MS = 30_000;

const shellCommandSchema = z.string().min(1).max(8_192);

const workloadKindSchema = z.enum(['fine-tuning', 'training', 'inference', 'notebook', 'other']);
type WorkloadKind = z.infer<typeof workloadKindSchema>;

/** What a loss costs most: hours of compute that no snapshot has yet. */
export const KINDS_WITH_STANDBY: readonly WorkloadKind[] = ['fine-tuning', 'training'];

/** The user's command and how to keep it running. Commands run by `/bin/sh -c` in the workspace folder. */
export const workloadSchema = z.strictObject({
  command: shellCommandSchema.describe('Shell command, run in the workspace folder.'),
  kind: workloadKindSchema.optional().describe('What it does; decides whether the workspace gets a standby by itself.'),
  postRestore: shellCommandSchema.optional().describe('Shell command run after a restore, before the workload.'),
  preSnapshot: shellCommandSchema
    .optional()
    .describe('Shell command run before a snapshot reads the folder, to bring files to rest.'),
  postSnapshot: shellCommandSchema
    .optional()
    .describe('Shell command run once the folder was read, whatever came of the snapshot and of preSnapshot.'),
  preStop: shellCommandSchema
    .optional()
    .describe('Shell command run before the workload is stopped for a move, to have it save what it holds in memory.'),
  hookTimeoutMs: z
    .int()
    .min(100)
    .max(600_000)
    .optional()
    .describe(`Time for each of the last three, ms; default: ${DEFAULT_HOOK_TIMEOUT_MS}.`),
  restart: z.boolean().default(true).describe('Start it again when it exits with an error.'),
  checkpoints: checkpointPolicySchema.optional(),
  check: workloadCheckSchema.optional().describe('How to see that it serves after a move; absent: that it runs.'),
});
export type Workload = z.infer<typeof workloadSchema>;

/** What each of the hooks around snapshots and stops may take, ms. Pure. */
export function hookTimeoutMs(workload: Workload): number {
  return workload.hookTimeoutMs ?? DEFAULT_HOOK_TIMEOUT_MS;
}

/** Taken while there is any; else given up one after the other, in the order of this list. The rest of the policy holds. */
const offerPreferenceSchema = z.strictObject({
  gpuNames: z.array(z.string().min(1)).max(64).default([]).describe('Preferred GPU names; empty: any.'),
  regions: z.array(z.string().min(1)).max(64).default([]).describe('Preferred regions; empty: any.'),
  maxPriceMicroUsdPerHour: z.int().positive().optional().describe('Preferred highest price, micro-dollars per hour.'),
});

/** What a machine may cost and be. Requirement C4; every default can be changed per workspace. */
export const offerPolicySchema = z.strictObject({
  maxPriceMicroUsdPerHour: z.int().positive().default(1_000_000).describe('Price cap, micro-dollars per hour.'),
  minReliability: z.number().min(0).max(1).default(0.9).describe('Least reliability, 0 to 1.'),
  minDiskGb: z.number().positive().default(20).describe('Least disk, GB.'),
  gpuNames: z.array(z.string().min(1)).max(64).default([]).describe('Acceptable GPU names; empty: any.'),
  allowRegions: z.array(z.string().min(1)).max(64).default([]).describe('Acceptable regions; empty: any.'),
  denyRegions: z.array(z.string().min(1)).max(64).default([]).describe('Regions never used.'),
  prefer: offerPreferenceSchema.prefault({}),
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
  enabled: z
    .union([z.boolean(), z.literal('auto')])
    .default('auto')
    .describe(`Keep a standby machine; auto: where workload.kind is ${KINDS_WITH_STANDBY.join(' or ')}.`),
  acceptLoss: z
    .boolean()
    .default(false)
    .describe('Fine-tune without a standby: a loss takes what was written since the last snapshot.'),
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

/** What becomes of files that a machine wrote and never published before it was fenced. */
export const branchesPolicySchema = z.strictObject({
  harvest: z.boolean().default(true).describe('Keep the unpublished files of a fenced machine as a branch.'),
  waitMs: z
    .int()
    .min(0)
    .max(600_000)
    .default(0)
    .describe('How long a fenced machine that says nothing is waited for before it is destroyed, ms; it costs money.'),
  keepMs: z
    .int()
    .min(60_000)
    .max(366 * 24 * 3_600_000)
    .default(14 * 24 * 3_600_000)
    .describe('Age at which a branch is deleted, ms.'),
});

export const workspacePolicySchema = z.strictObject({
  strategy: strategySchema.default('race'),
  raceWidth: z.int().min(1).max(5).default(3).describe('Machines rented at once by the race strategy.'),
  detectMode: detectModeSchema.default('adaptive'),
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
  branches: branchesPolicySchema.prefault({}),
});
export type WorkspacePolicy = z.infer<typeof workspacePolicySchema>;
/** As a caller writes it: every defaulted field may be left out. */
export type WorkspacePolicyInput = z.input<typeof workspacePolicySchema>;

/** The policy of a new workspace: what must not be asked for is refused here, and stored policies are read whatever they say. */
export const newPolicySchema = workspacePolicySchema.superRefine(({ workload, standby }, context) => {
  if (workload?.kind !== 'fine-tuning' || standby.enabled !== false || standby.acceptLoss) return;
  context.addIssue({
    code: 'custom',
    path: ['standby', 'enabled'],
    message:
      'must not be false for fine-tuning: a loss would take the work since the last snapshot. Leave it out, or set standby.acceptLoss to true',
  });
});

/** Whether the workspace is to have a standby. Pure. */
export function wantsStandby({ workload, standby }: Pick<WorkspacePolicy, 'workload' | 'standby'>): boolean {
  if (standby.enabled !== 'auto') return standby.enabled;
  return workload?.kind !== undefined && KINDS_WITH_STANDBY.includes(workload.kind);
}

/** What a machine of this role runs while it is the workspace's primary; null: nothing. Pure. */
export function workloadOf(policy: Pick<WorkspacePolicy, 'workload' | 'standby'>, role: AgentRole): Workload | null {
  if (role === 'gpu') {
    if (policy.workload === undefined) return null;
    // What it is for is the control plane's business, and agents refuse fields that they do not know.
    const { kind: _, ...workload } = policy.workload;
    return workload;
  }
  const { command } = policy.standby;
  return command === undefined ? null : { command, restart: true };
}
