import type { Clock } from '@dumont/shared/util/clock.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import { parseBehaviour, type Behaviour } from './behaviour.ts';
import { readSeedMarket, type SeedOffer } from './seed-market.ts';

/** One offer of the market, which changes. */
export interface Ask {
  readonly seed: SeedOffer;
  behaviour: Behaviour;
  minBid: number;
  /** By a contract, or by somebody we know nothing of. */
  isTaken: boolean;
}

export type SearchType = 'bid' | 'ondemand';

const HOURS_PER_MONTH = 720;

/** Hours that local time is ahead of UTC, roughly, by the last two letters of a location. */
const UTC_OFFSET_H: Readonly<Record<string, number>> = { US: -6, CA: -5, BR: -3, CN: 8, IS: 0 };

/** Places whose prices move twice as much. */
const VOLATILE = /, (?:BR|CN)$/;

/** The invented market: 25 machines whose bids move. */
export class Market {
  readonly asks: ReadonlyMap<number, Ask>;
  readonly #random: Random;
  readonly #clock: Clock;

  /** @param options.isCalm every machine behaves */
  constructor(options: { readonly random: Random; readonly clock: Clock; readonly isCalm: boolean }) {
    this.#random = options.random;
    this.#clock = options.clock;
    this.asks = new Map(
      readSeedMarket().map((seed) => {
        const behaviour = options.isCalm ? ({ kind: 'ok' } as const) : parseBehaviour(seed.behaviour);
        return [seed.id, { seed, behaviour, minBid: seed.min_bid, isTaken: false }];
      }),
    );
  }

  /** What is for rent, as the API shows it with disks of `gb`. */
  rows(type: SearchType, gb: number): readonly Readonly<Record<string, unknown>>[] {
    return [...this.asks.values()].filter((ask) => !ask.isTaken).map((ask) => this.#row(ask, type, gb));
  }

  /** One minute of price movement: a random walk around the time of day, within bounds. */
  movePrices(): void {
    for (const ask of this.asks.values()) {
      const { dph_base: base, geolocation } = ask.seed;
      const sigma = VOLATILE.test(geolocation) ? 0.02 : 0.01;
      const hour = (this.#clock.nowMs() / 3_600_000 + (UTC_OFFSET_H[geolocation.slice(-2)] ?? 1)) % 24;
      // The walk is around the seed's price of this hour: a factor per minute would run away.
      const due = ask.seed.min_bid * (1 + 0.12 * Math.sin((2 * Math.PI * (hour - 15)) / 24));
      const pulled = ask.minBid + 0.02 * (due - ask.minBid);
      const moved = pulled * Math.exp(sigma * this.#normal());
      ask.minBid = round(Math.min(1.3 * base, Math.max(0.35 * base, moved)));
    }
  }

  #row({ seed, minBid }: Ask, type: SearchType, gb: number): Readonly<Record<string, unknown>> {
    const { n, boot_s: _boot, behaviour: _behaviour, duration_days: days, min_bid: _seedBid, ...facts } = seed;
    const nowS = this.#clock.nowMs() / 1_000;
    const gpuHour = type === 'bid' ? minBid : seed.dph_base;
    const diskHour = round((seed.storage_cost * gb) / HOURS_PER_MONTH);
    const total = round(gpuHour + diskHour);
    const totalRam = seed.gpu_ram * seed.num_gpus;
    return {
      ...facts,
      ask_contract_id: seed.id,
      bundle_id: seed.id - 99,
      min_bid: minBid,
      is_bid: type === 'bid',
      gpu_total_ram: totalRam,
      gpu_frac: 1,
      gpu_arch: 'nvidia',
      cpu_arch: 'amd64',
      resource_type: 'gpu',
      has_avx: 1,
      external: null,
      vms_enabled: false,
      pci_gen: 4,
      pcie_bw: 12.4,
      cpu_ghz: 3.4,
      disk_name: 'nvme',
      reliability: seed.reliability2,
      driver_vers: driverNumber(seed.driver_version),
      dph_total: total,
      dph_total_adj: total,
      storage_total_cost: diskHour,
      dlperf_per_dphtotal: seed.dlperf / total,
      flops_per_dphtotal: seed.total_flops / total,
      vram_costperhour: total / totalRam,
      score: (seed.dlperf / total) * seed.reliability2,
      search: priceParts(gpuHour, diskHour),
      instance: priceParts(0, diskHour),
      rentable: true,
      rented: false,
      duration: days * 86_400,
      start_date: nowS,
      end_date: nowS + days * 86_400,
      public_ipaddr: `203.0.113.${10 + n}`,
    };
  }

  /** Box and Muller's. */
  #normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.#random.next())) * Math.cos(2 * Math.PI * this.#random.next());
  }
}

/** The parts of a price as rows of offers and instances carry them. Pure. */
export function priceParts(gpuHour: number, diskHour: number) {
  const total = round(gpuHour + diskHour);
  return {
    gpuCostPerHour: gpuHour,
    diskHour,
    totalHour: total,
    discountTotalHour: 0,
    discountedTotalPerHour: total,
  };
}

/** Dollars per hour of a disk. Pure. */
export function diskHourOf(seed: SeedOffer, gb: number): number {
  return round((seed.storage_cost * gb) / HOURS_PER_MONTH);
}

function driverNumber(version: string): number {
  const [major = 0, minor = 0, patch = 0] = version.split('.').map(Number);
  return major * 1_000_000 + minor * 1_000 + patch;
}

function round(amount: number): number {
  return Math.round(amount * 1e6) / 1e6;
}
