import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { Offer } from '@dumont/shared/model/offer.ts';
import type { StrategyName } from '@dumont/shared/model/policy.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';

/** A way of getting one ready machine out of a market where orders fail and machines do not come up. */
export interface Strategy {
  readonly name: StrategyName;
  /**
   * Rents until one machine is ready. Every machine rented or adopted is afterwards the winner or among the losers,
   * and each loser's release has been asked for. Nothing but those releases outlives the call.
   * @throws the signal's reason when aborted before a machine was ready; then nothing has been released on behalf of the
   *   abort, so that the caller decides what to keep
   * @throws whatever else than a DumontError a renter threw, when no machine became ready in spite of it
   */
  obtain(options: ObtainOptions): Promise<StrategyOutcome>;
}

export interface ObtainOptions {
  /** Ranked, best first; each is ordered at most once. */
  readonly offers: readonly Offer[];
  readonly renter: Renter;
  /**
   * Machines that a crashed earlier run of the same step had already rented: waited for first, and no other is rented in
   * their place before they failed.
   */
  readonly adopted: readonly InstanceId[];
  readonly clock: Clock;
  /** From the accepted order to the agent's hello; longer is a failure. */
  readonly bootDeadlineMs: number;
  /** Machines held at once at most; only the race uses more than one. */
  readonly width: number;
  readonly signal: AbortSignal;
}

/**
 * What a strategy may do to the world. Methods honour their signal promptly, by rejecting or by resolving with what is
 * known, and throw DumontError. All are safe to repeat for the same machine.
 */
export interface Renter {
  /**
   * Ledger row, provider call, bookkeeping. After a rejection the machine may exist all the same; the ledger row is
   * then what the sweeper finds it by.
   */
  rent(offer: Offer, signal: AbortSignal): Promise<RentOutcome>;
  /** Resolves when the machine's agent said hello, or the machine failed. */
  waitReady(instanceId: InstanceId, signal: AbortSignal): Promise<BootOutcome>;
  /** Asks for its destruction; the sweeper proves it. A machine that `failed` to come up is held against its host. */
  release(instanceId: InstanceId, reason: string, cause?: ReleaseCause): Promise<void>;
}

/** Absent: it did nothing wrong. */
export type ReleaseCause = 'failed';

export type RentOutcome =
  | { readonly kind: 'rented'; readonly instanceId: InstanceId }
  | { readonly kind: 'offer-gone' }
  | { readonly kind: 'refused'; readonly reason: string };

export type BootOutcome = { readonly kind: 'ready' } | { readonly kind: 'failed'; readonly reason: string };

/** An order or a machine that came to nothing. */
export interface FailedAttempt {
  /** Null for an adopted machine. */
  readonly offerId: string | null;
  /** Null when nothing was rented. */
  readonly instanceId: InstanceId | null;
  readonly reason: string;
}

/** A release that could not be asked for; the machine is still held. */
export interface FailedRelease {
  readonly instanceId: InstanceId;
  readonly error: unknown;
}

interface Spent {
  readonly attempts: readonly FailedAttempt[];
  /** Machines not won with, in the order of their release. */
  readonly losers: readonly InstanceId[];
  /** Settles once every release was asked for or failed; never rejects. Not waited for, because users wait for the winner. */
  readonly releases: Promise<readonly FailedRelease[]>;
}

export type StrategyOutcome =
  | ({ readonly kind: 'ready'; readonly instanceId: InstanceId } & Spent)
  | ({ readonly kind: 'exhausted' } & Spent);
