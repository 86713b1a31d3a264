import { z } from 'zod';
import { checkReportSchema } from '../model/workload-check.ts';
import { restoreResultSchema } from '../protocol/command.ts';
import { countSchema, wallMsSchema } from '../protocol/primitives.ts';
import { folderCheckSchema } from '../protocol/trial.ts';

/**
 * `provider-test`: one machine of a provider, from the search to its destruction. `failover-test`: a workspace's snapshot
 * restored on a machine of its own.
 */
export const TEST_KINDS = ['provider-test', 'failover-test'] as const;
export type TestKind = (typeof TEST_KINDS)[number];

/**
 * What a test did, how long each step took, what it cost and what it proves: a view of the stored steps, the same for
 * REST, CLI, HTML and PDF.
 */
export const testReportSchema = z.object({
  testId: z.string(),
  kind: z.enum(TEST_KINDS),
  /** Null for a test of a provider. */
  workspaceId: z.string().nullable(),
  workspaceName: z.string().nullable(),
  state: z.string(),
  /** Null while it runs. Every step worked out, and everything rented is proven gone. */
  success: z.boolean().nullable(),
  /** What went wrong first. */
  error: z.string().nullable(),
  startedAtMs: wallMsSchema,
  finishedAtMs: wallMsSchema.nullable(),
  /** Until now while it runs. */
  totalMs: z.number(),
  /** In the order in which they began; a step that was tried again is there again. */
  steps: z.array(
    z.object({
      step: z.string(),
      startedAtMs: wallMsSchema,
      /** Since the start of the test. */
      offsetMs: z.number(),
      /** Until now while it runs. */
      durationMs: z.number(),
      /** Of the sum of all steps, 0 to 1. */
      share: z.number().min(0).max(1),
      /** Null while it runs. */
      outcome: z.string().nullable(),
      detail: z.record(z.string(), z.unknown()),
    }),
  ),
  /** What the provider said of the tested machine, whenever it was something else than before. */
  statuses: z.array(z.object({ atMs: wallMsSchema, status: z.string(), rawStatus: z.string().nullable() })),
  /** Everything rented, the tested one first. */
  machines: z.array(
    z.object({
      instanceId: z.string(),
      provider: z.string(),
      machineId: z.string(),
      gpuName: z.string(),
      gpuCount: countSchema,
      region: z.string(),
      priceMicroUsdPerHour: countSchema,
      costMicroUsd: countSchema,
      rentedAtMs: wallMsSchema.nullable(),
      /** Its provider has twice denied that it exists, or never made it. */
      goneAtMs: wallMsSchema.nullable(),
    }),
  ),
  costMicroUsd: countSchema,
  maxCostMicroUsd: countSchema.nullable(),
  /** What was found, one claim each; true where it holds. */
  evidence: z.array(z.object({ claim: z.string(), ok: z.boolean(), detail: z.string() })),
  snapshot: z
    .object({
      snapshotId: z.string(),
      fileCount: countSchema,
      totalBytes: countSchema,
      storedBytes: countSchema,
      createMs: z.number(),
    })
    .nullable(),
  restore: restoreResultSchema.omit({ snapshotId: true }).nullable(),
  folder: folderCheckSchema.nullable(),
  check: checkReportSchema.nullable(),
});
export type TestReport = z.infer<typeof testReportSchema>;
