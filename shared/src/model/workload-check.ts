import { z } from 'zod';
import { countSchema } from '../protocol/primitives.ts';

/** A model of many gigabytes takes minutes from the disk to the GPU. */
const DEFAULT_CHECK_TIMEOUT_MS = 180_000;
const MAX_CHECK_TIMEOUT_MS = 1_800_000;

const portSchema = z.int().min(1).max(65_535);
const modelSchema = z.string().min(1).max(512).describe('Name of the model, as the server lists it.');
const promptSchema = z.string().min(1).max(4_096).default('Say hello.').describe('What the model is asked.');
const timeoutMs = z
  .int()
  .min(100)
  .max(MAX_CHECK_TIMEOUT_MS)
  .default(DEFAULT_CHECK_TIMEOUT_MS)
  .describe('Time for all of it, loading the model included, ms.');

/**
 * How to see that a workload serves, not merely runs: a request made on the machine itself, asked again until
 * it is answered or the time is up.
 */
export const workloadCheckSchema = z.discriminatedUnion('kind', [
  /** GET answers with this status. */
  z.strictObject({
    kind: z.literal('http'),
    port: portSchema,
    path: z
      .string()
      .max(2_048)
      .regex(/^\/[\x21-\x7e]*$/, 'must begin with "/" and hold no spaces')
      .default('/'),
    expectStatus: z.int().min(100).max(599).default(200),
    timeoutMs,
  }),
  /** Ollama generates at least one token. */
  z.strictObject({
    kind: z.literal('ollama'),
    port: portSchema.default(11_434),
    model: modelSchema,
    prompt: promptSchema,
    timeoutMs,
  }),
  /** vLLM, or another server of OpenAI's completions API, generates at least one token. */
  z.strictObject({
    kind: z.literal('vllm'),
    port: portSchema.default(8_000),
    model: modelSchema,
    prompt: promptSchema,
    timeoutMs,
  }),
]);
export type WorkloadCheck = z.infer<typeof workloadCheckSchema>;

/** What came of a check. A workload that does not serve is an outcome, not a failure of whoever looked. */
export const checkReportSchema = z.object({
  kind: z.enum(['http', 'ollama', 'vllm']),
  /** Null where no model is asked. */
  model: z.string().max(512).nullable(),
  ok: z.boolean(),
  /** From the start of the check until the server was ready for the request that counts; null when it never was. */
  readyMs: z.number().min(0).nullable(),
  /** From that request to the first token of its answer; null without a token. */
  firstTokenMs: z.number().min(0).nullable(),
  /** As many as were generated; null where no model is asked. */
  tokens: countSchema.nullable(),
  totalMs: z.number().min(0),
  /** Why it is not ok. */
  error: z.string().max(2_000).nullable(),
});
export type CheckReport = z.infer<typeof checkReportSchema>;
