import type { Clock } from '@dumont/shared/util/clock.ts';
import { assert } from '@dumont/shared/util/assert.ts';

export interface TokenBucketOptions {
  readonly ratePerSecond: number;
  /** Most tokens saved up while nobody takes any. */
  readonly burst: number;
  readonly clock: Clock;
}

/**
 * Paces what is taken from it to a rate. Takers are served in the order they come, and one may take more than the burst:
 * it starts when what was saved is used up and those after it wait for the debt.
 */
export class TokenBucket {
  readonly #options: TokenBucketOptions;
  #tokens: number;
  #countedMs: number;

  constructor(options: TokenBucketOptions) {
    assert(options.ratePerSecond > 0 && options.burst >= 0, 'a token bucket needs a rate');
    this.#options = options;
    this.#tokens = options.burst;
    this.#countedMs = options.clock.monotonicMs();
  }

  /** Takes tokens and waits until they are there. Rejects with the signal's reason, giving back what was not used. */
  async take(amount: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    const { ratePerSecond, clock } = this.#options;
    this.#refill();
    this.#tokens -= amount;
    if (this.#tokens >= 0) return;
    try {
      await clock.sleep((-this.#tokens / ratePerSecond) * 1_000, signal);
    } catch (error) {
      this.#tokens += amount;
      throw error;
    }
  }

  #refill(): void {
    const { ratePerSecond, burst, clock } = this.#options;
    const nowMs = clock.monotonicMs();
    this.#tokens = Math.min(burst, this.#tokens + ((nowMs - this.#countedMs) / 1_000) * ratePerSecond);
    this.#countedMs = nowMs;
  }
}
