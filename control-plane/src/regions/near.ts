import type { Offer } from '@dumont/shared/model/offer.ts';
import { distanceKm, plannedRttMs, type Coordinates } from './distance.ts';
import { GCP_REGIONS, type GcpRegion } from './gcp-regions.ts';
import { locate, type Place } from './locate.ts';

export interface NearRegion {
  readonly region: GcpRegion;
  readonly km: number;
}

/**
 * What a standby's round trip is worth: at this many milliseconds from its primary it must cost half as much to be
 * chosen over one beside it. Every save of the workload waits for that way once.
 */
const RTT_WORTH_DOUBLE_MS = 50;

/** For an offer whose place nobody knows: about the width of a continent. */
const UNKNOWN_KM = 4_000;

/** Google's regions, nearest first, ties by name. Pure. */
export function nearestRegions(from: Coordinates): readonly NearRegion[] {
  return GCP_REGIONS.map((region) => ({ region, km: distanceKm(from, region.coordinates) })).toSorted(
    (a, b) => a.km - b.km || a.region.name.localeCompare(b.region.name),
  );
}

/**
 * Offers for a standby, best first: the expected price, once the chance of losing it is paid for, times what its
 * distance costs. In the order they came in where the primary's place is not known. Pure.
 * @param primary where the primary is; undefined: nobody knows
 */
export function rankNear(offers: readonly Offer[], primary: Place | undefined): readonly Offer[] {
  if (primary === undefined) return offers;
  const score = (offer: Offer) => {
    const place = locate(offer.region);
    const km = place === undefined ? UNKNOWN_KM : distanceKm(primary.coordinates, place.coordinates);
    return offer.priceMicroUsdPerHour * (2 - offer.reliability) * (1 + plannedRttMs(km) / RTT_WORTH_DOUBLE_MS);
  };
  return offers
    .map((offer) => ({ offer, score: score(offer) }))
    .toSorted((a, b) => a.score - b.score || a.offer.offerId.localeCompare(b.offer.offerId))
    .map(({ offer }) => offer);
}
