import { z } from 'zod';
import { workloadCheckSchema } from '../model/workload-check.ts';
import type { Endpoint } from './endpoint.ts';
import { nothing, page, pageOf } from './paging.ts';
import { simulationSchema } from './simulation.ts';
import { TEST_KINDS, testReportSchema } from './test-report.ts';

/** Ten cents: the cheapest GPUs for an hour, and any for the minutes that a test takes. */
const DEFAULT_MAX_COST_MICRO_USD = 100_000;

export const providerTestBodySchema = z.strictObject({
  provider: z.string().min(1).max(64).optional().describe('Which provider; needed where there are several.'),
  gpuName: z.string().min(1).max(64).optional().describe('Only this GPU.'),
  maxCostMicroUsd: z.int().min(1).default(DEFAULT_MAX_COST_MICRO_USD).describe('What it may cost at most.'),
  /** False where machines have no GPU to show, as those of the local provider. */
  requireGpu: z.boolean().default(true).describe('nvidia-smi has to see the GPUs that were ordered.'),
});
export type ProviderTestBody = z.infer<typeof providerTestBodySchema>;

export const failoverTestBodySchema = z.strictObject({
  workspace: z.string().min(1),
  model: z
    .string()
    .min(1)
    .max(512)
    .optional()
    .describe("A model that must answer on the test machine: the workload's own check, or Ollama's."),
  check: workloadCheckSchema.optional().describe('Another check than that.'),
});
export type FailoverTestBody = z.infer<typeof failoverTestBodySchema>;

const started = z.object({ testId: z.string(), workspaceId: z.string().nullable() });

/** Their part of the table of endpoints. */
export const TEST_ENDPOINTS = {
  simulateFailover: {
    method: 'POST',
    path: '/failovers/simulate',
    summary: 'What would happen if the primary were lost now: offers, times, loss, cost. Rents nothing.',
    auth: true,
    successStatus: 200,
    query: nothing,
    body: z.strictObject({ workspace: z.string().min(1) }),
    response: simulationSchema,
  },
  testFailover: {
    method: 'POST',
    path: '/tests/failover',
    summary:
      'Restore a fresh snapshot of a workspace on a machine of its own and verify every byte; the primary goes on.',
    auth: true,
    successStatus: 202,
    query: nothing,
    body: failoverTestBodySchema,
    response: started,
  },
  testProvider: {
    method: 'POST',
    path: '/tests/provider',
    summary: 'Rent one machine of a provider, try it, destroy it.',
    auth: true,
    successStatus: 202,
    query: nothing,
    body: providerTestBodySchema,
    response: started,
  },
  listTests: {
    method: 'GET',
    path: '/tests',
    summary: 'Reports of tests, newest first.',
    auth: true,
    successStatus: 200,
    query: z.strictObject({
      ...page,
      limit: z.coerce.number<number | string>().int().min(1).max(100).default(20),
      workspace: z.string().optional(),
      kind: z.enum(TEST_KINDS).optional(),
    }),
    body: nothing,
    response: pageOf(testReportSchema),
  },
  getTest: {
    method: 'GET',
    path: '/tests/:testId',
    summary: 'The report of one test, finished or not.',
    auth: true,
    successStatus: 200,
    query: nothing,
    body: nothing,
    response: testReportSchema,
  },
  cancelTest: {
    method: 'POST',
    path: '/tests/:testId/cancel',
    summary: 'Stop a test; what it rented is destroyed. False: it is over, or destroying already.',
    auth: true,
    successStatus: 202,
    query: nothing,
    body: nothing,
    response: z.object({ testId: z.string(), cancelled: z.boolean() }),
  },
} as const satisfies Record<string, Endpoint>;
