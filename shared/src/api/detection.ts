import { z } from 'zod';
import { countSchema } from '../protocol/primitives.ts';
import type { Endpoint } from './endpoint.ts';

/** What a row of {@link detectionViewSchema} adds up. */
export const DETECTION_GROUPS = ['instance', 'host', 'provider'] as const;

/** How good the failure detector was (the measures of Chen, Toueg and Aguilera), for an instance, a host or a provider. */
export const detectionViewSchema = z.object({
  provider: z.string(),
  /** The provider's physical machine; null for a whole provider. */
  machineId: z.string().nullable(),
  /** Null for more than one. */
  instanceId: z.string().nullable(),
  watchedMs: z.number(),
  /** Suspicions, and those taken back. */
  suspects: countSchema,
  mistakes: countSchema,
  /** lambda_M: mistakes for each 30 days of watching; null before the first hour, which says nothing. */
  mistakesPerMonth: z.number().nullable(),
  /** T_M: how long a mistake stood, mean; null without one. */
  mistakeMs: z.number().nullable(),
  /** P_A: share of the time in which a living machine was trusted; null before the first hour. */
  queryAccuracy: z.number().min(0).max(1).nullable(),
  /** Confirms taken back, and what the machines rented for them cost. */
  averted: countSchema,
  avertedMicroUsd: countSchema,
  /** Machines given up, and those of them that spoke again: false failovers, or machines that their provider resumed. */
  losses: countSchema,
  returned: countSchema,
  /** T_D as the control plane sees it: last sign of life → confirmed, mean and longest; null without a loss. */
  detectMs: z.number().nullable(),
  detectMaxMs: z.number().nullable(),
});
export type DetectionView = z.infer<typeof detectionViewSchema>;

/** Its part of the table of endpoints. */
export const DETECTION_ENDPOINTS = {
  listDetection: {
    method: 'GET',
    path: '/detection',
    summary: 'How good the failure detector was, by instance, host or provider; the longest watched first.',
    auth: true,
    successStatus: 200,
    query: z.strictObject({
      limit: z.coerce.number<number | string>().int().min(1).max(500).default(100),
      by: z.enum(DETECTION_GROUPS).default('provider'),
    }),
    body: z.strictObject({}),
    response: z.object({ items: z.array(detectionViewSchema) }),
  },
} as const satisfies Record<string, Endpoint>;
