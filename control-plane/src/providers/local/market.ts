import { microUsd } from '@dumont/shared/model/money.ts';
import type { Offer } from '@dumont/shared/model/offer.ts';
import type { Random } from '@dumont/shared/util/random.ts';

/** One listing of the simulated market: a host with room for exactly one machine. */
export interface LocalOffer {
  readonly offer: Offer;
  /** Typical time from the order to the start of the agent, ms. */
  readonly bootMs: number;
}

/** The name under which the local provider's offers and machines are booked. */
export const LOCAL_PROVIDER_NAME = 'local';

/** Offer ids become file names of the fault marks, so they stay this plain. */
export const OFFER_ID_PATTERN = /^[a-z0-9][a-z0-9-]{0,63}$/;

/** Boot times vary by this share around the typical one, as on real markets. */
const BOOT_JITTER = 0.15;

/**
 * The market a fresh installation finds. The same table in every process, so that two providers on one folder agree;
 * two listings lie below the default least reliability on purpose, and the last three
 * are cheap machines without a GPU, for standbys.
 */
export const LOCAL_MARKET: readonly LocalOffer[] = [
  listing('use1', 'us-east', 'RTX 4090', { usd: 0.34, reliability: 0.995, diskGb: 120, bootMs: 900 }),
  listing('use2', 'us-east', 'RTX 3090', { usd: 0.18, reliability: 0.962, diskGb: 80, bootMs: 1_300 }),
  listing('usw1', 'us-west', 'RTX 4090', { usd: 0.31, reliability: 0.981, diskGb: 100, bootMs: 1_100 }),
  listing('usw2', 'us-west', 'A100 40GB', { usd: 0.72, reliability: 0.999, diskGb: 200, bootMs: 700 }),
  listing('euw1', 'eu-west', 'RTX 4090', { usd: 0.36, reliability: 0.99, diskGb: 120, bootMs: 1_000 }),
  listing('euw2', 'eu-west', 'RTX A5000', { usd: 0.22, reliability: 0.948, diskGb: 60, bootMs: 1_700 }),
  listing('eun1', 'eu-north', 'RTX 4090', { usd: 0.29, reliability: 0.972, diskGb: 100, bootMs: 1_400 }),
  listing('eun2', 'eu-north', 'L40S', { usd: 0.58, reliability: 0.997, diskGb: 160, bootMs: 800 }),
  listing('sae1', 'sa-east', 'RTX 3090', { usd: 0.14, reliability: 0.88, diskGb: 80, bootMs: 2_100 }),
  listing('sae2', 'sa-east', 'RTX 3080', { usd: 0.1, reliability: 0.85, diskGb: 40, bootMs: 2_200 }),
  cpuListing('use9', 'us-east', { usd: 0.021, reliability: 0.998, diskGb: 200, bootMs: 600 }),
  cpuListing('usw9', 'us-west', { usd: 0.019, reliability: 0.996, diskGb: 200, bootMs: 700 }),
  cpuListing('euw9', 'eu-west', { usd: 0.024, reliability: 0.999, diskGb: 200, bootMs: 600 }),
];

/** How long this particular machine takes to boot, ms: typical × scale, ± 15 % drawn from `random`. */
export function drawBootMs(listing: LocalOffer, scale: number, random: Random): number {
  const factor = 1 - BOOT_JITTER + 2 * BOOT_JITTER * random.next();
  return Math.round(listing.bootMs * scale * factor);
}

interface Terms {
  readonly usd: number;
  readonly reliability: number;
  readonly diskGb: number;
  readonly bootMs: number;
}

function cpuListing(code: string, region: string, terms: Terms): LocalOffer {
  const { offer, bootMs } = listing(code, region, 'no GPU', terms);
  return { offer: { ...offer, gpuName: 'none', gpuCount: 0 }, bootMs };
}

function listing(code: string, region: string, gpu: string, terms: Terms): LocalOffer {
  return {
    offer: {
      provider: LOCAL_PROVIDER_NAME,
      offerId: `offer-${code}`,
      machineId: `host-${code}`,
      gpuName: `${gpu} (simulated)`,
      gpuCount: 1,
      diskGb: terms.diskGb,
      priceMicroUsdPerHour: microUsd(terms.usd),
      reliability: terms.reliability,
      region,
      kind: 'spot',
    },
    bootMs: terms.bootMs,
  };
}
