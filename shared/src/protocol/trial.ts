import { z } from 'zod';
import { checkReportSchema, workloadCheckSchema } from '../model/workload-check.ts';
import { gpuSampleSchema, WORKLOAD_STATES } from './heartbeat.ts';
import { countSchema } from './primitives.ts';
import { snapshotRefSchema } from './snapshot-record.ts';

/**
 * What a machine is asked to show of itself in a test. All of it is for a `replacement` only: a machine that is being
 * prepared and serves nobody. None of it makes it primary.
 */

/** Differing paths named at most; the count tells of all. */
export const MAX_LISTED_DIFFERENCES = 20;

/** Of the file that a test writes: enough for the disk to notice, little enough for the slowest. */
export const MAX_PROBE_BYTES = 256 * 1_024 * 1_024;

const sha256Schema = z.string().regex(/^[0-9a-f]{64}$/);
/** Chosen by who asks: the file's content follows from it, so that its hash is known beforehand. */
const nonceSchema = z.string().regex(/^[0-9a-f]{32}$/);

const probeFileSchema = z.object({
  sha256: sha256Schema,
  bytes: countSchema,
  tookMs: z.number().min(0),
});
export type ProbeFile = z.infer<typeof probeFileSchema>;

/** What lies in the workspace folder, read back and held against a snapshot. */
export const folderCheckSchema = z.object({
  ok: z.boolean(),
  fileCount: countSchema,
  /** All entries: files, folders, symbolic and hard links. */
  entryCount: countSchema,
  /** Read from the disk. */
  bytes: countSchema,
  /** SHA-256 over one line for each path: type, mode, size, link target, content ids. Of the manifest, and of the folder. */
  expectedTree: sha256Schema,
  actualTree: sha256Schema,
  differenceCount: countSchema,
  differences: z.array(z.string().max(4_400)).max(MAX_LISTED_DIFFERENCES),
  tookMs: z.number().min(0),
});
export type FolderCheck = z.infer<typeof folderCheckSchema>;

/** Their part of the commands. */
export const TRIAL_ACTIONS = [
  /** Read everything back and compare it with the snapshot: paths, types, modes, sizes, content. Changes nothing. */
  z.object({ name: z.literal('verify-restore'), snapshot: snapshotRefSchema }),
  /**
   * Do what a restore does besides the files, start the assignment's workload, make the check and end the workload again.
   * A workload that fails, or does not serve, is a result.
   */
  z.object({
    name: z.literal('trial-workload'),
    stableMs: z.int().min(0).max(600_000),
    check: workloadCheckSchema,
    graceMs: z.int().min(0).max(600_000),
  }),
  /** Write a file whose content follows from the nonce beside the workspace's own, down to the disk. */
  z.object({
    name: z.literal('write-probe'),
    nonce: nonceSchema,
    sizeBytes: z.int().min(1).max(MAX_PROBE_BYTES),
  }),
  /** Read that file back. Fails with NOT_FOUND where it was not written. */
  z.object({ name: z.literal('read-probe'), nonce: nonceSchema }),
  /** Ask nvidia-smi once. A machine without it is a result. */
  z.object({ name: z.literal('sample-gpus') }),
] as const;

export const TRIAL_RESULTS = [
  z.object({ name: z.literal('verify-restore'), folder: folderCheckSchema }),
  z.object({
    name: z.literal('trial-workload'),
    state: z.enum(WORKLOAD_STATES),
    /** Null when the workload did not stay up. */
    check: checkReportSchema.nullable(),
    error: z.string().max(2_000).nullable(),
  }),
  /** The hash is of what was to be written. */
  z.object({ name: z.literal('write-probe'), file: probeFileSchema }),
  /** The hash is of what was read. */
  z.object({ name: z.literal('read-probe'), file: probeFileSchema }),
  z.object({
    name: z.literal('sample-gpus'),
    /** False: there is no nvidia-smi, or it fails; then `error` says how. */
    isThere: z.boolean(),
    driver: z.string().max(64).nullable(),
    gpus: z.array(gpuSampleSchema).max(64),
    tookMs: z.number().min(0),
    error: z.string().max(1_000).nullable(),
  }),
] as const;
