import { z } from 'zod';
import { credentialSchema } from './primitives.ts';

/**
 * An agent replaces its credential in three steps, and either side may die between any two of them:
 * 1. the agent writes the next credential down beside the present one and proposes it; both sides know both from here on
 * 2. the control plane accepts: either of the two admits the agent now
 * 3. the agent makes the next one its only one and confirms; so does a hello with it. The former one admits nobody any more
 * Every message may be said again.
 */
export const credentialProposeSchema = z.object({
  kind: z.literal('credential-propose'),
  credential: credentialSchema,
});
export type CredentialPropose = z.infer<typeof credentialProposeSchema>;

/** The proposal last made on this session is stored. */
export const credentialAcceptedSchema = z.object({ kind: z.literal('credential-accepted') });

export const credentialConfirmSchema = z.object({
  kind: z.literal('credential-confirm'),
  credential: credentialSchema,
});
export type CredentialConfirm = z.infer<typeof credentialConfirmSchema>;
