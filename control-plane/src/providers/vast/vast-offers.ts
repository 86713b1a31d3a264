import { MICRO_USD_PER_USD, microUsd } from '@dumont/shared/model/money.ts';
import type { Offer } from '@dumont/shared/model/offer.ts';
import type { VastAsk } from './vast-schemas.ts';

export const VAST_PROVIDER_NAME = 'vast';

/**
 * What we bid, of the lowest bid that wins. The bid is what is paid, so the rest is the premium for not being outbid by the
 * next small move of the price.
 */
const BID_PERCENT = 110;

/** Hours of a month in Vast's prices of storage. */
const HOURS_PER_MONTH = 720;

/** Bids are sent in steps of a hundredth of a cent. */
const BID_STEP_MICRO_USD = 100;

/** SSH takes one direct port, the agent's workload may take another. */
export const MIN_DIRECT_PORTS = 2;

/**
 * An offer of interruptible machines at what it will cost us: our bid for all its GPUs and the storage of a disk of
 * `diskGb`, which is what the machine will have. Undefined for a row that does not fit: filters are checked again here,
 * because the server ignores some of them now and then. Pure.
 */
export function spotOffer(ask: VastAsk, diskGb: number): Offer | undefined {
  if (ask.rentable === false || ask.rented === true || (ask.verification ?? 'verified') !== 'verified')
    return undefined;
  if (ask.disk_space < diskGb || (ask.direct_port_count ?? 0) < MIN_DIRECT_PORTS) return undefined;
  const bidMicroUsdPerHour = bidFor(ask.min_bid);
  const reliability = ask.reliability2 ?? ask.reliability ?? 0;
  return {
    provider: VAST_PROVIDER_NAME,
    offerId: String(ask.id),
    machineId: String(ask.machine_id),
    gpuName: ask.gpu_name,
    gpuCount: ask.num_gpus,
    diskGb,
    priceMicroUsdPerHour: bidMicroUsdPerHour + microUsd((ask.storage_cost * diskGb) / HOURS_PER_MONTH),
    bidMicroUsdPerHour,
    reliability: Math.min(1, Math.max(0, reliability)),
    region: regionOf(ask.geolocation),
    kind: 'spot',
    ...(typeof ask.inet_up === 'number' && { uploadMbps: ask.inet_up }),
    ...(typeof ask.inet_down === 'number' && { downloadMbps: ask.inet_down }),
  };
}

/** What we bid where `minBidUsd` per hour wins now, micro-dollars. Pure. */
export function bidFor(minBidUsd: number): number {
  return Math.ceil((microUsd(minBidUsd) * BID_PERCENT) / 100 / BID_STEP_MICRO_USD) * BID_STEP_MICRO_USD;
}

/** Micro-dollars as Vast takes money. Pure. */
export function usd(microUsdAmount: number): number {
  return microUsdAmount / MICRO_USD_PER_USD;
}

/**
 * The country of `Texas, US`, `South Korea, KR` or `, CN`: the last two letters; `unknown` where there are none. Pure.
 */
function regionOf(geolocation: string | null | undefined): string {
  return /([A-Za-z]{2})\s*$/.exec(geolocation ?? '')?.[1]?.toUpperCase() ?? 'unknown';
}

/** One page of a search for interruptible machines, cheapest first, above a lowest bid in dollars. Pure. */
export function searchBody(options: {
  readonly diskGb: number;
  readonly aboveMinBidUsd: number | undefined;
  readonly limit: number;
}): Readonly<Record<string, unknown>> {
  const { diskGb, aboveMinBidUsd, limit } = options;
  return {
    type: 'bid',
    verified: { eq: true },
    rentable: { eq: true },
    rented: { eq: false },
    external: { eq: false },
    disk_space: { gte: diskGb },
    direct_port_count: { gte: MIN_DIRECT_PORTS },
    ...(aboveMinBidUsd !== undefined && { min_bid: { gt: aboveMinBidUsd } }),
    // Sorted by anything else, cheap interruptible machines do not show.
    order: [['min_bid', 'asc']],
    allocated_storage: diskGb,
    limit,
  };
}
