import { z } from 'zod';
import { wallMsSchema } from './primitives.ts';

/** Below the API: where an agent with a `presigned` grant has its requests signed. */
export const SIGN_PATH = '/agent/storage/sign';

/** Requests signed in one call: as many as an agent ever has under way to one service. */
export const MAX_SIGNED_REQUESTS = 64;

const keySchema = z.string().min(1).max(1_024);

/** One request to the object store. Keys are whole, with the grant's prefix. There is none that deletes. */
export const storeRequestSchema = z.discriminatedUnion('method', [
  z.object({ method: z.literal('GET'), key: keySchema }),
  z.object({ method: z.literal('HEAD'), key: keySchema }),
  /** `ifAbsent` needs a service that knows conditional writes. */
  z.object({ method: z.literal('PUT'), key: keySchema, ifAbsent: z.boolean() }),
  z.object({ method: z.literal('LIST'), prefix: keySchema, continuationToken: z.string().max(4_096).optional() }),
]);
export type StoreRequest = z.infer<typeof storeRequestSchema>;

export const signBodySchema = z.strictObject({ requests: z.array(storeRequestSchema).min(1).max(MAX_SIGNED_REQUESTS) });

/** The same number of URLs in the same order; each is good until `expiresAtMs` by the control plane's clock. */
export const signAnswerSchema = z.object({
  urls: z.array(z.url({ protocol: /^https?$/ })).max(MAX_SIGNED_REQUESTS),
  expiresAtMs: wallMsSchema,
});
export type SignAnswer = z.infer<typeof signAnswerSchema>;
