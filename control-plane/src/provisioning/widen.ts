import type { Offer } from '@dumont/shared/model/offer.ts';
import type { OfferPolicy } from '@dumont/shared/model/policy.ts';

/** Preferences of a policy in the order in which they are given up. */
export const PREFERENCES = ['gpuNames', 'regions', 'price'] as const;
export type Preference = (typeof PREFERENCES)[number];

/**
 * The offers that meet what the policy prefers; where there are none, those that meet less of it: first the kind of GPU
 * is given up, then the region, then the price. Only preferences are: what the policy demands every offer meets already.
 * Pure.
 * @param fitting acceptable to the policy, in order
 * @returns in the same order, with the preferences given up; empty only without any fitting offer
 */
export function widen(
  fitting: readonly Offer[],
  { prefer }: Pick<OfferPolicy, 'prefer'>,
): { readonly offers: readonly Offer[]; readonly widened: readonly Preference[] } {
  const meets: Readonly<Record<Preference, (offer: Offer) => boolean>> = {
    gpuNames: ({ gpuName }) => prefer.gpuNames.length === 0 || prefer.gpuNames.includes(gpuName),
    regions: ({ region }) => prefer.regions.length === 0 || prefer.regions.includes(region),
    price: ({ priceMicroUsdPerHour: price }) => price <= (prefer.maxPriceMicroUsdPerHour ?? Infinity),
  };
  for (let given = 0; given < PREFERENCES.length; given += 1) {
    const kept = PREFERENCES.slice(given);
    const offers = fitting.filter((offer) => kept.every((preference) => meets[preference](offer)));
    if (offers.length > 0) return { offers, widened: statedOf(PREFERENCES.slice(0, given), prefer) };
  }
  return { offers: fitting, widened: fitting.length === 0 ? [] : statedOf(PREFERENCES, prefer) };
}

/** Those that the policy states: giving up what nobody asked for is no news. */
function statedOf(preferences: readonly Preference[], prefer: OfferPolicy['prefer']): readonly Preference[] {
  const isStated: Readonly<Record<Preference, boolean>> = {
    gpuNames: prefer.gpuNames.length > 0,
    regions: prefer.regions.length > 0,
    price: prefer.maxPriceMicroUsdPerHour !== undefined,
  };
  return preferences.filter((preference) => isStated[preference]);
}
