import { z } from 'zod';
import { offerSchema } from '../model/offer.ts';
import { strategySchema } from '../model/policy.ts';
import { countSchema, wallMsSchema } from '../protocol/primitives.ts';

/** The phases of a failover, in order. */
export const SIMULATED_PHASES = ['detect', 'search', 'provision', 'restore', 'commit', 'resume', 'switch'] as const;

/** What would happen if the primary were lost now. Nothing is rented, nothing is changed. */
export const simulationSchema = z.object({
  workspaceId: z.string(),
  workspaceName: z.string(),
  atMs: wallMsSchema,
  /** Nothing stands in its way. */
  possible: z.boolean(),
  /** What does, in words with what to do about it. */
  blockers: z.array(z.string()),
  /** What does not, and is worth knowing. */
  warnings: z.array(z.string()),
  strategy: strategySchema,
  /** Machines that would be rented at once. */
  machinesAtOnce: z.int(),
  offersSeen: countSchema,
  offersFitting: countSchema,
  /** Why the others are out, the most frequent first. */
  refusals: z.array(z.object({ reason: z.string(), count: countSchema })),
  /** In the order in which they would be tried, at most ten. */
  offers: z.array(
    z.object({
      rank: z.int(),
      offer: offerSchema,
      /** The price, once the chance of losing the machine is paid for. */
      expectedMicroUsdPerHour: countSchema,
    }),
  ),
  phases: z.array(
    z.object({
      phase: z.enum(SIMULATED_PHASES),
      expectedMs: z.number(),
      /** The median of that many earlier failovers of this workspace or, with too few, of all; or an assumption. */
      basis: z.enum(['workspace', 'installation', 'assumed']),
      samples: countSchema,
    }),
  ),
  /** Last sign of life → users are served by the new machine. */
  expectedTotalMs: z.number(),
  /** What would be lost. Null without a snapshot and a standby. */
  loss: z
    .object({
      ms: z.number(),
      bytes: countSchema.nullable(),
      /** What is restored: the standby's copy, or the last snapshot. */
      from: z.enum(['standby', 'snapshot']),
    })
    .nullable(),
  snapshot: z.object({ snapshotId: z.string(), committedAtMs: wallMsSchema, totalBytes: countSchema }).nullable(),
  standby: z
    .object({ instanceId: z.string(), state: z.string(), connected: z.boolean(), behindMs: z.number().nullable() })
    .nullable(),
  primary: z.object({ instanceId: z.string(), connected: z.boolean(), unsavedMs: z.number().nullable() }).nullable(),
  /** Of the machines that would be rented, until users are served. */
  expectedCostMicroUsd: countSchema,
  /** From then on. */
  priceMicroUsdPerHour: countSchema.nullable(),
});
export type Simulation = z.infer<typeof simulationSchema>;
