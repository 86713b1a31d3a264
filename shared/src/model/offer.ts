import { z } from 'zod';
import type { OfferPolicy, StandbyPolicy } from './policy.ts';

/** A provider's for-rent listing. Becomes an instance when accepted. */
export const offerSchema = z.object({
  provider: z.string(),
  offerId: z.string(),
  /** The provider's physical host; carries history across instances. */
  machineId: z.string(),
  gpuName: z.string(),
  gpuCount: z.int().min(0),
  diskGb: z.number(),
  priceMicroUsdPerHour: z.int().min(0),
  /** The provider's own figure, 0 to 1. */
  reliability: z.number().min(0).max(1),
  region: z.string(),
  kind: z.enum(['spot', 'on-demand']),
  /** Of a spot offer that is bid for: our bid, which is part of the price. Absent where the provider takes no bids. */
  bidMicroUsdPerHour: z.int().min(0).optional(),
  /** The provider's figures for the host's line, megabits per second; absent where it gives none. */
  uploadMbps: z.number().min(0).optional(),
  downloadMbps: z.number().min(0).optional(),
});
export type Offer = Readonly<z.infer<typeof offerSchema>>;

/** Why an offer is out, in words for an operator; undefined when it is acceptable. Pure. */
export function offerObjection(offer: Offer, policy: OfferPolicy): string | undefined {
  if (offer.gpuCount === 0) return 'no GPU';
  return generalObjection(offer, policy) ?? gpuObjection(offer, policy);
}

function gpuObjection({ gpuName }: Offer, { gpuNames }: OfferPolicy): string | undefined {
  return gpuNames.length > 0 && !gpuNames.includes(gpuName) ? 'another GPU type' : undefined;
}

/** What holds for every machine, with a GPU or without. */
function generalObjection(offer: Offer, policy: OfferPolicy): string | undefined {
  if (offer.priceMicroUsdPerHour > policy.maxPriceMicroUsdPerHour) return 'above the price cap';
  if (offer.reliability < policy.minReliability) return 'below the least reliability';
  if (offer.diskGb < policy.minDiskGb) return 'too little disk';
  if (policy.allowRegions.length > 0 && !policy.allowRegions.includes(offer.region))
    return 'outside the allowed regions';
  if (policy.denyRegions.includes(offer.region)) return 'in a denied region';
  return undefined;
}

/**
 * Acceptable offers, best first: expected price once the chance of losing the machine is paid for,
 * `price × (1 + (1 − reliability))`, ties by offer id so that the order is stable. Pure.
 */
export function rankOffers(offers: readonly Offer[], policy: OfferPolicy): readonly Offer[] {
  return bestFirst(offers.filter((offer) => offerObjection(offer, policy) === undefined));
}

/**
 * Machines that may be a workspace's standby, best first: the workspace's own terms but for the GPU, which it does not
 * need, under the standby's price cap. Pure.
 */
export function rankStandbyOffers(
  offers: readonly Offer[],
  policy: { readonly offers: OfferPolicy; readonly standby: StandbyPolicy },
): readonly Offer[] {
  const { maxPriceMicroUsdPerHour } = policy.standby;
  const terms = { ...policy.offers, maxPriceMicroUsdPerHour };
  return bestFirst(offers.filter((offer) => generalObjection(offer, terms) === undefined));
}

function bestFirst(offers: readonly Offer[]): readonly Offer[] {
  const score = (offer: Offer) => offer.priceMicroUsdPerHour * (2 - offer.reliability);
  return offers.toSorted((a, b) => score(a) - score(b) || a.offerId.localeCompare(b.offerId));
}
