import type { PlacementScore } from '@dumont/shared/api/machine-history.ts';
import type { Offer } from '@dumont/shared/model/offer.ts';
import { distanceKm, plannedRttMs } from '../regions/distance.ts';
import { locate, type Place } from '../regions/locate.ts';
import type { HostRecord } from '../store/machine-boots.ts';

/** What a choice is made for. */
export interface PlacementNeeds {
  /** What is restored there, bytes. */
  readonly restoreBytes: number;
  /** Where the standby is, to which every change travels; undefined: none, or nobody knows. */
  readonly standby: Place | undefined;
  readonly hostOf: (offer: Offer) => Pick<HostRecord, 'ready' | 'failed' | 'interrupted'> | undefined;
}

export interface ScoredOffer {
  readonly offer: Offer;
  readonly score: PlacementScore;
}

/** The provider's own figure weighs as much as so many machines that we rented there. */
const PRIOR_MACHINES = 10;
/** For a host whose line nobody measured: what most have. */
const UNKNOWN_DOWNLOAD_MBPS = 200;
/** So many milliseconds from the standby cost as much as the machine: then every save waits noticeably. */
const RTT_WORTH_DOUBLE_MS = 200;
/** For an offer whose place nobody knows: about the width of a continent. */
const UNKNOWN_KM = 4_000;
/** What another host or kind of machine may cost more, so that a race is not lost to one cause. */
const SPREAD_FACTOR = 1.25;

/**
 * What an hour on an offer costs in expectation, micro-dollars: `price × (1 + loss + restore hours + round trip / 200 ms)`.
 *
 * `loss` is the chance that the machine does not come up or is taken away: the provider's figure counts as
 * {@link PRIOR_MACHINES} machines, beside those that we rented on the host. The restore is paid for once an hour, at the
 * host's download rate. Pure.
 */
export function scoreOffer(offer: Offer, needs: PlacementNeeds): PlacementScore {
  const { priceMicroUsdPerHour: price, reliability, downloadMbps = UNKNOWN_DOWNLOAD_MBPS } = offer;
  const { ready = 0, failed = 0, interrupted = 0 } = needs.hostOf(offer) ?? {};
  const bad = (1 - reliability) * PRIOR_MACHINES + failed + interrupted;
  const expectedLoss = Math.min(1, bad / (PRIOR_MACHINES + ready + failed));
  const restoreS = (needs.restoreBytes * 8) / (Math.max(1, downloadMbps) * 1e6);
  const standbyRttMs = rttTo(needs.standby, offer);
  const lossMicroUsd = price * expectedLoss;
  const restoreMicroUsd = price * (restoreS / 3_600);
  const distanceMicroUsd = price * ((standbyRttMs ?? 0) / RTT_WORTH_DOUBLE_MS);
  return {
    priceMicroUsdPerHour: price,
    expectedLoss,
    lossMicroUsd: Math.round(lossMicroUsd),
    restoreS,
    restoreMicroUsd: Math.round(restoreMicroUsd),
    standbyRttMs,
    distanceMicroUsd: Math.round(distanceMicroUsd),
    totalMicroUsd: Math.round(price + lossMicroUsd + restoreMicroUsd + distanceMicroUsd),
  };
}

/** Best first, ties by offer id so that the order is stable. Pure. */
export function rankByScore(offers: readonly Offer[], needs: PlacementNeeds): readonly ScoredOffer[] {
  return offers
    .map((offer) => ({ offer, score: scoreOffer(offer, needs) }))
    .toSorted(
      (a, b) => a.score.totalMicroUsd - b.score.totalMicroUsd || a.offer.offerId.localeCompare(b.offer.offerId),
    );
}

/**
 * Brings machines that have little in common to the front, as many as are raced: no host twice while there are others, and
 * another provider or kind of GPU where it costs at most a quarter more than the best that is left. Pure.
 */
export function spread(ranked: readonly ScoredOffer[], width: number): readonly ScoredOffer[] {
  const rest = [...ranked];
  const front: ScoredOffer[] = [];
  const hosts = new Set<string>();
  const kinds = new Set<string>();
  while (front.length < width && rest.length > 0) {
    const isNewHost = ({ offer }: ScoredOffer) => !hosts.has(hostKey(offer));
    const best = Math.max(0, rest.findIndex(isNewHost));
    const mostMicroUsd = (rest[best]?.score.totalMicroUsd ?? 0) * SPREAD_FACTOR;
    const other = rest.findIndex(
      (item) => isNewHost(item) && !kinds.has(kindKey(item.offer)) && item.score.totalMicroUsd <= mostMicroUsd,
    );
    const [chosen] = rest.splice(other === -1 ? best : other, 1);
    if (chosen === undefined) break;
    hosts.add(hostKey(chosen.offer));
    kinds.add(kindKey(chosen.offer));
    front.push(chosen);
  }
  return [...front, ...rest];
}

/** A physical machine, across providers. Pure. */
export function hostKey({ provider, machineId }: Pick<Offer, 'provider' | 'machineId'>): string {
  return `${provider}\n${machineId}`;
}

/** A kind of machine: what is short or broken together. Pure. */
export function kindKey({ provider, gpuName }: Pick<Offer, 'provider' | 'gpuName'>): string {
  return `${provider}\n${gpuName}`;
}

function rttTo(standby: Place | undefined, { region }: Offer): number | null {
  if (standby === undefined) return null;
  const place = locate(region);
  return plannedRttMs(place === undefined ? UNKNOWN_KM : distanceKm(standby.coordinates, place.coordinates));
}
