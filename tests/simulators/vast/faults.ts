import { z } from 'zod';
import { parseBehaviour } from './behaviour.ts';

/** What goes wrong with the next order: what is done, and what the client hears. */
export const ORDER_FAULTS = ['lost-reply', 'on-demand', 'bid-too-low', 'no-credit'] as const;

/** How the API is when it is down. */
export const OUTAGES = ['reset', 'html-503', 'json-500', 'throttled'] as const;

const behaviourSchema = z.string().transform((word, context) => {
  try {
    return parseBehaviour(word);
  } catch (error) {
    context.addIssue({ code: 'custom', message: String(error) });
    return z.NEVER;
  }
});

/** Everything that can be made to happen, by code (`VastSimulator.inflict`) or by POST to /simulator/faults. */
export const faultSchema = z.discriminatedUnion('kind', [
  /** Somebody bids more than an instance's owner. */
  z.object({ kind: z.literal('outbid'), instance: z.int(), resumes: z.boolean().default(false) }),
  z.object({ kind: z.literal('resume'), instance: z.int() }),
  /** An instance's host loses its network. */
  z.object({ kind: z.literal('offline'), instance: z.int() }),
  z.object({ kind: z.literal('online'), instance: z.int() }),
  z.object({ kind: z.literal('refuse-starts'), instance: z.int() }),
  /** Of machines ordered from now on, as in the seed market: `stuck-loading`, `outbid@60`. */
  z.object({ kind: z.literal('behaviour'), offer: z.int(), behaviour: behaviourSchema }),
  /** The lowest bid of an offer; instances on it that bid less are outbid. */
  z.object({ kind: z.literal('price'), offer: z.int(), minBid: z.number().positive() }),
  /** An offer is not listed and cannot be ordered. */
  z.object({ kind: z.literal('withdraw'), offer: z.int() }),
  z.object({ kind: z.literal('next-orders'), how: z.enum(ORDER_FAULTS), times: z.int().min(1).default(1) }),
  /** New contracts are invisible for so long, seconds. */
  z.object({ kind: z.literal('visibility-lag'), seconds: z.number().min(0) }),
  z.object({ kind: z.literal('api-down'), how: z.enum(OUTAGES) }),
  z.object({ kind: z.literal('api-up') }),
  /** Dollars left; at zero everything stops. */
  z.object({ kind: z.literal('credit'), usd: z.number() }),
]);
export type Fault = z.input<typeof faultSchema>;
export type ParsedFault = z.output<typeof faultSchema>;
