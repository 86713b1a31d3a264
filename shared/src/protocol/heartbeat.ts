import { z } from 'zod';
import { countSchema, epochSchema } from './primitives.ts';

/** Unstarted: no command is set or it was not asked to run. */
export const WORKLOAD_STATES = ['unstarted', 'running', 'restarting', 'exited', 'failed', 'stopped'] as const;
export type WorkloadState = (typeof WORKLOAD_STATES)[number];

/** Sent every `heartbeatIntervalMs` by the agent's link thread; under 300 bytes. */
export const heartbeatSchema = z.object({
  kind: z.literal('heartbeat'),
  seq: countSchema,
  epoch: epochSchema,
  /** Agent's monotonic clock when it was sent, ms. */
  monotonicMs: z.number(),
  /** How long ago the agent's main thread last showed life, ms; large means it is stuck. */
  mainLagMs: z.number().min(0),
  /** Mean over the GPUs, null without one. */
  gpuUtilPct: z.number().min(0).max(100).nullable(),
  /** Age of the oldest change not in a committed snapshot, ms; 0 when everything is safe. */
  unsavedMs: z.number().min(0),
  /** Size of the files with such changes; absent while it is not known, as when the whole folder is looked at anew. */
  unsavedBytes: countSchema.optional(),
  /** What the standby does not have yet: size of the files with changes, or of what was appended, and the age of the oldest of it, ms; absent until it has had everything once. */
  standbyBehindBytes: countSchema.optional(),
  standbyBehindMs: z.number().min(0).optional(),
  /**
   * From a standby: when it last heard anything of the primary that synchronizes with it, ms ago, and that primary's
   * epoch. Absent while it cannot know: nobody greeted it yet, or it was itself too busy to listen.
   */
  peer: z.object({ epoch: epochSchema, heardMsAgo: z.number().min(0) }).optional(),
  workload: z.enum(WORKLOAD_STATES),
});
export type Heartbeat = z.infer<typeof heartbeatSchema>;

/** Sent about once a second, so that an agent notices a half-open socket and a higher epoch. */
export const heartbeatAckSchema = z.object({ kind: z.literal('heartbeat-ack'), seq: countSchema, epoch: epochSchema });

export const gpuSampleSchema = z.object({
  index: z.int().min(0).max(64),
  name: z.string().max(128),
  utilPct: z.number().min(0).max(100).nullable(),
  memoryUsedBytes: countSchema.nullable(),
  memoryTotalBytes: countSchema.nullable(),
  temperatureC: z.number().nullable(),
  powerW: z.number().nullable(),
});
export type GpuSample = z.infer<typeof gpuSampleSchema>;

export const hostSampleSchema = z.object({
  cpuPct: z.number().min(0).max(100),
  memoryUsedBytes: countSchema,
  memoryTotalBytes: countSchema,
  diskUsedBytes: countSchema.nullable(),
  diskTotalBytes: countSchema.nullable(),
  networkRxBytesPerSecond: z.number().min(0).nullable(),
  networkTxBytesPerSecond: z.number().min(0).nullable(),
});
export type HostSample = z.infer<typeof hostSampleSchema>;

/** The slow telemetry, every few seconds. An empty `gpus` is a normal machine without a GPU. */
export const sampleSchema = z.object({
  kind: z.literal('sample'),
  gpus: z.array(gpuSampleSchema).max(64),
  host: hostSampleSchema,
});
export type Sample = z.infer<typeof sampleSchema>;
