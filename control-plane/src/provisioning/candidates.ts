import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { Offer } from '@dumont/shared/model/offer.ts';
import { assert } from '@dumont/shared/util/assert.ts';
import { DumontError, isDumontError } from '@dumont/shared/util/errors.ts';
import type {
  BootOutcome,
  FailedAttempt,
  FailedRelease,
  ObtainOptions,
  ReleaseCause,
  RentOutcome,
  StrategyOutcome,
} from './strategy.ts';

/** One thing to try: a machine that is already ours, or an offer to order. */
export type Candidate =
  | { readonly kind: 'adopted'; readonly instanceId: InstanceId }
  | { readonly kind: 'offer'; readonly offer: Offer };

/** What a strategy tries, in order. */
export function candidatesOf({ adopted, offers }: Pick<ObtainOptions, 'adopted' | 'offers'>): readonly Candidate[] {
  return [
    ...adopted.map((instanceId) => ({ kind: 'adopted', instanceId }) as const),
    ...offers.map((offer) => ({ kind: 'offer', offer }) as const),
  ];
}

/**
 * The machines and failures of one `obtain`: who is held, who was let go, what went wrong. It is the one place that
 * releases, so that each machine is released at most once and none is forgotten.
 */
export class Candidates {
  readonly #options: ObtainOptions;
  readonly #held: Set<InstanceId>;
  readonly #losers: InstanceId[] = [];
  readonly #releases: Promise<FailedRelease | null>[] = [];
  readonly #attempts: FailedAttempt[] = [];

  constructor(options: ObtainOptions) {
    this.#options = options;
    this.#held = new Set(options.adopted);
  }

  /**
   * Takes one candidate as far as it goes.
   * @returns the machine if it is ready; null when it failed, was noted and, where it exists, released
   * @throws when `signal` aborted: the machine, if any, stays held
   */
  async attempt(candidate: Candidate, signal: AbortSignal): Promise<InstanceId | null> {
    const offerId = candidate.kind === 'offer' ? candidate.offer.offerId : null;
    const instanceId = candidate.kind === 'offer' ? await this.#rent(candidate.offer, signal) : candidate.instanceId;
    if (instanceId === null) return null;
    const booted = await this.#boot(instanceId, signal);
    if (booted.kind === 'ready') return instanceId;
    // A renter may answer an abort with "failed"; that says nothing about the machine.
    signal.throwIfAborted();
    this.#attempts.push({ offerId, instanceId, reason: booted.reason });
    this.#release(instanceId, booted.reason, 'failed');
    return null;
  }

  /** Machines rented or adopted and not let go of. */
  get heldCount(): number {
    return this.#held.size;
  }

  /** Lets go of every machine held but this one. */
  releaseAllBut(winner: InstanceId, reason: string): void {
    for (const instanceId of this.#held) if (instanceId !== winner) this.#release(instanceId, reason);
  }

  ready(instanceId: InstanceId): StrategyOutcome {
    return { kind: 'ready', instanceId, ...this.#spent() };
  }

  exhausted(): StrategyOutcome {
    return { kind: 'exhausted', ...this.#spent() };
  }

  async #rent(offer: Offer, signal: AbortSignal): Promise<InstanceId | null> {
    signal.throwIfAborted();
    const outcome = await this.#tolerate<RentOutcome>(
      () => this.#options.renter.rent(offer, signal),
      (reason) => ({ kind: 'refused', reason }),
      signal,
    );
    if (outcome.kind === 'rented') {
      this.#held.add(outcome.instanceId);
      return outcome.instanceId;
    }
    const reason = outcome.kind === 'refused' ? outcome.reason : 'the offer was gone';
    this.#attempts.push({ offerId: offer.offerId, instanceId: null, reason });
    return null;
  }

  async #boot(instanceId: InstanceId, signal: AbortSignal): Promise<BootOutcome> {
    signal.throwIfAborted();
    const { clock, renter, bootDeadlineMs } = this.#options;
    const deadline = new AbortController();
    const cancel = clock.after(bootDeadlineMs, () =>
      deadline.abort(new DumontError('TIMEOUT', `no hello within ${bootDeadlineMs} ms`)),
    );
    try {
      return await this.#tolerate<BootOutcome>(
        () => renter.waitReady(instanceId, AbortSignal.any([signal, deadline.signal])),
        (reason) => ({ kind: 'failed', reason }),
        signal,
      );
    } finally {
      cancel();
    }
  }

  /** A renter's DumontError is a failed attempt like any other, unless we caused it by aborting. */
  async #tolerate<Outcome>(
    work: () => Promise<Outcome>,
    failed: (reason: string) => Outcome,
    signal: AbortSignal,
  ): Promise<Outcome> {
    try {
      return await work();
    } catch (error) {
      signal.throwIfAborted();
      if (!isDumontError(error)) throw error;
      return failed(error.message);
    }
  }

  #release(instanceId: InstanceId, reason: string, cause?: ReleaseCause): void {
    assert(this.#held.delete(instanceId), 'a machine is released once');
    this.#losers.push(instanceId);
    this.#releases.push(this.#askRelease(instanceId, reason, cause));
  }

  async #askRelease(
    instanceId: InstanceId,
    reason: string,
    cause: ReleaseCause | undefined,
  ): Promise<FailedRelease | null> {
    try {
      await this.#options.renter.release(instanceId, reason, cause);
      return null;
    } catch (error) {
      return { instanceId, error };
    }
  }

  #spent() {
    return {
      attempts: [...this.#attempts],
      losers: [...this.#losers],
      releases: Promise.all(this.#releases).then((results) => results.filter((result) => result !== null)),
    };
  }
}
