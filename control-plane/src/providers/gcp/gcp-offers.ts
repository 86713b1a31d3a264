import type { Offer } from '@dumont/shared/model/offer.ts';
import { GCP_REGIONS, gcpRegionOf } from '../../regions/gcp-regions.ts';

export const GCP_PROVIDER_NAME = 'gcp';

/** Machine types for standbys, by what they cost relative to an e2-medium. */
const TYPE_FACTORS = {
  'e2-micro': 0.25,
  'e2-small': 0.5,
  'e2-medium': 1,
  'e2-standard-2': 2,
  'e2-standard-4': 4,
} as const;
export type GcpMachineType = keyof typeof TYPE_FACTORS;
export const GCP_MACHINE_TYPES = Object.keys(TYPE_FACTORS) as readonly GcpMachineType[];

/** A balanced disk, micro-dollars per GB and hour: $0.10 a month, which Spot does not discount. */
const DISK_MICRO_USD_PER_GB_HOUR = 137;
/** An external address of a Spot machine. */
const ADDRESS_MICRO_USD_PER_HOUR = 2_500;
/** Google promises nothing for Spot and publishes no rate; a planning figure for machines this small. */
const SPOT_RELIABILITY = 0.97;

/** What we ask of each machine. */
export interface GcpShape {
  readonly machineType: GcpMachineType;
  readonly diskGb: number;
}

export interface GcpListing {
  readonly zone: string;
  /** Counts the machines of ours in the zone: a zone is no single host, so each place in it is an offer of its own. */
  readonly slot: number;
}

/** The zones we know a price for, by name. */
export const GCP_ZONES: readonly string[] = GCP_REGIONS.filter((region) => region.spotMicroUsdPerHour !== null).flatMap(
  (region) => region.zones,
);

/** The offer of a place in a zone. Null for a zone without a price. Pure. */
export function gcpOffer({ zone, slot }: GcpListing, { machineType, diskGb }: GcpShape): Offer | null {
  const perHour = gcpRegionOf(zone)?.spotMicroUsdPerHour ?? null;
  if (perHour === null) return null;
  const machine = Math.round(perHour * TYPE_FACTORS[machineType]);
  return {
    provider: GCP_PROVIDER_NAME,
    offerId: `${zone}/${machineType}/${slot}`,
    // The smallest thing that fails on its own, as far as one can see from outside.
    machineId: `gcp-${zone}`,
    gpuName: 'none',
    gpuCount: 0,
    diskGb,
    priceMicroUsdPerHour: machine + Math.round(diskGb * DISK_MICRO_USD_PER_GB_HOUR) + ADDRESS_MICRO_USD_PER_HOUR,
    reliability: SPOT_RELIABILITY,
    region: zone,
    kind: 'spot',
  };
}

/** The place that an offer of ours is for; null for anything else. Pure. */
export function parseOfferId(offerId: string): (GcpListing & { readonly machineType: string }) | null {
  const [zone = '', machineType = '', slot = '', ...rest] = offerId.split('/');
  if (!GCP_ZONES.includes(zone) || !/^\d{1,4}$/.test(slot) || rest.length > 0) return null;
  return { zone, machineType, slot: Number(slot) };
}

/** The lowest place that is free. Pure. */
export function freeSlot(taken: ReadonlySet<number>): number {
  let slot = 1;
  while (taken.has(slot)) slot += 1;
  return slot;
}
