import { assert } from '@dumont/shared/util/assert.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';

/** Saved up while nothing is sent, as a part of a second. */
const BURST_SECONDS = 0.25;
/** What waits for room looks again this often at most: it cannot know when those that go first come. */
const MIN_WAIT_MS = 20;

/**
 * One cap on what leaves a machine, for two kinds of takers: what {@link first} sends never waits for what {@link rest}
 * does, and the rest gets what it leaves. Both in bytes; the cap holds on average over a few takes of the rest.
 */
export class UploadShare {
  readonly #bytesPerSecond: number;
  readonly #clock: Clock;
  /** Below zero while those that go first wait for what they took. */
  #tokens: number;
  #countedMs: number;

  constructor(options: { readonly bytesPerSecond: number; readonly clock: Clock }) {
    assert(options.bytesPerSecond > 0, 'a cap lets something through');
    this.#bytesPerSecond = options.bytesPerSecond;
    this.#clock = options.clock;
    this.#tokens = options.bytesPerSecond * BURST_SECONDS;
    this.#countedMs = options.clock.monotonicMs();
  }

  /** Waits until the bytes may be sent. Rejects with the signal's reason, giving back what was not used. */
  async first(bytes: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    this.#refill();
    this.#tokens -= bytes;
    if (this.#tokens >= 0) return;
    try {
      await this.#clock.sleep((-this.#tokens / this.#bytesPerSecond) * 1_000, signal);
    } catch (error) {
      this.#tokens += bytes;
      throw error;
    }
  }

  /** The same for what comes after: gathers what is left over until it is enough. */
  async rest(bytes: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    let taken = 0;
    try {
      for (;;) {
        this.#refill();
        const part = Math.min(bytes - taken, Math.max(0, this.#tokens));
        this.#tokens -= part;
        taken += part;
        if (taken >= bytes) return;
        const lackMs = ((bytes - taken - Math.min(0, this.#tokens)) / this.#bytesPerSecond) * 1_000;
        // Never longer than what may be saved up, or some of it would be lost.
        const mostMs = BURST_SECONDS * 1_000;
        await this.#clock.sleep(Math.min(mostMs, Math.max(MIN_WAIT_MS, lackMs)), signal);
      }
    } catch (error) {
      this.#tokens += taken;
      throw error;
    }
  }

  #refill(): void {
    const nowMs = this.#clock.monotonicMs();
    const most = this.#bytesPerSecond * BURST_SECONDS;
    this.#tokens = Math.min(most, this.#tokens + ((nowMs - this.#countedMs) / 1_000) * this.#bytesPerSecond);
    this.#countedMs = nowMs;
  }
}
