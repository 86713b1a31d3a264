import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';

/** Failures an address may make at once: a fleet behind one proxy whose tokens have all expired. */
const BURST = 30;
/** And one more after each of these: more than a person needs, far too few for guesses. */
const REFILL_MS = 2_000;
/** Addresses remembered, about 100 bytes each; the one that failed longest ago is forgotten first. */
const MAX_ADDRESSES = 10_000;

/**
 * Bounds how often one address may fail at something secret. Success costs nothing, so machines that share an address
 * do not stand in each other's way.
 */
export class FailureLimit {
  readonly #clock: Clock;
  /** When the bucket will be full again, monotonic ms, by address, in the order of their last failure. */
  readonly #fullAtMs = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** @throws {DumontError} LIMIT, retryable, for an address that has failed too often of late */
  check(address: string): void {
    const debtMs = (this.#fullAtMs.get(address) ?? 0) - this.#clock.monotonicMs();
    if (debtMs <= (BURST - 1) * REFILL_MS) return;
    throw new DumontError('LIMIT', 'too many refused attempts from this address', {
      retryable: true,
      hint: `Wait a moment: one more attempt is allowed every ${REFILL_MS / 1000} s.`,
    });
  }

  failed(address: string): void {
    const nowMs = this.#clock.monotonicMs();
    const fullAtMs = Math.max(nowMs, this.#fullAtMs.get(address) ?? nowMs) + REFILL_MS;
    this.#fullAtMs.delete(address);
    this.#fullAtMs.set(address, fullAtMs);
    const [oldest] = this.#fullAtMs.keys();
    if (this.#fullAtMs.size > MAX_ADDRESSES && oldest !== undefined) this.#fullAtMs.delete(oldest);
  }
}
