import type { BootOutcome, RentOutcome, Renter } from '@dumont/control-plane/provisioning/strategy.ts';
import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { Offer } from '@dumont/shared/model/offer.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { ManualClock } from '../../../world/manual-clock.ts';

/** What will happen to one candidate, and after how long. */
export interface Fate {
  readonly rent: 'rented' | 'offer-gone' | 'refused' | 'throws';
  readonly rentMs: number;
  /** True for a provider call that cannot be called back: it answers in spite of an abort. */
  readonly rentIgnoresAbort: boolean;
  readonly boot: 'ready' | 'failed' | 'throws' | 'never';
  readonly bootMs: number;
  /** True for a wait that answers an abort with "failed" instead of rejecting. */
  readonly bootAnswersAbort: boolean;
  readonly releaseThrows: boolean;
}

export const GOOD: Fate = {
  rent: 'rented',
  rentMs: 10,
  rentIgnoresAbort: false,
  boot: 'ready',
  bootMs: 1_000,
  bootAnswersAbort: false,
  releaseThrows: false,
};

/** A market in memory whose every answer is known beforehand; notes what was asked of it. */
export class ScriptedRenter implements Renter {
  readonly ordered: string[] = [];
  readonly rented: InstanceId[] = [];
  readonly released: InstanceId[] = [];
  readonly becameReady: InstanceId[] = [];
  /** Most machines held at one moment. */
  mostHeld: number;
  /** Calls that have not settled. */
  pending = 0;
  readonly #clock: ManualClock;
  readonly #fates: ReadonlyMap<string, Fate>;

  constructor(clock: ManualClock, fates: ReadonlyMap<string, Fate>, adopted: readonly InstanceId[] = []) {
    this.#clock = clock;
    this.#fates = fates;
    this.mostHeld = adopted.length;
    this.rented.push(...adopted);
  }

  rent(offer: Offer, signal: AbortSignal): Promise<RentOutcome> {
    return this.#counted(async () => {
      this.ordered.push(offer.offerId);
      const fate = this.#fate(offer.offerId);
      await this.#clock.sleep(fate.rentMs, fate.rentIgnoresAbort ? undefined : signal);
      if (fate.rent === 'throws') throw new DumontError('PROVIDER', 'no answer to the order');
      if (fate.rent === 'offer-gone') return { kind: 'offer-gone' };
      if (fate.rent === 'refused') return { kind: 'refused', reason: 'no' };
      const instanceId = instanceOf(offer.offerId);
      this.rented.push(instanceId);
      this.mostHeld = Math.max(this.mostHeld, this.rented.length - this.released.length);
      return { kind: 'rented', instanceId };
    });
  }

  waitReady(instanceId: InstanceId, signal: AbortSignal): Promise<BootOutcome> {
    return this.#counted(async () => {
      const fate = this.#fate(instanceId.slice('in_'.length));
      try {
        await this.#clock.sleep(fate.boot === 'never' ? 1e9 : fate.bootMs, signal);
      } catch (error) {
        if (fate.bootAnswersAbort) return { kind: 'failed', reason: 'stopped waiting' };
        throw error;
      }
      if (fate.boot === 'throws') throw new DumontError('PROVIDER', 'no answer about the machine');
      if (fate.boot === 'failed') return { kind: 'failed', reason: 'broken' };
      this.becameReady.push(instanceId);
      return { kind: 'ready' };
    });
  }

  async release(instanceId: InstanceId): Promise<void> {
    this.released.push(instanceId);
    if (this.#fate(instanceId.slice('in_'.length)).releaseThrows) throw new DumontError('PROVIDER', 'no answer');
  }

  #fate(name: string): Fate {
    return must(this.#fates.get(name), `${name} has a fate`);
  }

  async #counted<Result>(work: () => Promise<Result>): Promise<Result> {
    this.pending += 1;
    try {
      return await work();
    } finally {
      this.pending -= 1;
    }
  }
}

/** The machine that renting this offer gives; also how adopted machines are named. */
export function instanceOf(name: string): InstanceId {
  return `in_${name}` as InstanceId;
}

export function offerNamed(offerId: string): Offer {
  return {
    provider: 'scripted',
    offerId,
    machineId: `host-${offerId}`,
    gpuName: 'any',
    gpuCount: 1,
    diskGb: 100,
    priceMicroUsdPerHour: 300_000,
    reliability: 0.99,
    region: 'nowhere',
    kind: 'spot',
  };
}
