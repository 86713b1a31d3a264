import type { Clock } from '@dumont/shared/util/clock.ts';

/** Requests at once: a start that suits a disk, and a bound that suits any service and its rate limits. */
const MIN_FETCHES = 4;
const MAX_FETCHES = 64;
/** Throughput is compared over windows of this long, or longer until enough has arrived to mean something. */
const WINDOW_MS = 250;
/** Grow while it pays this much, shrink when it costs this much. */
const GAIN = 1.1;
const LOSS = 0.8;

/**
 * How many requests to have in flight: additive growth by a quarter while throughput grows with it, multiplicative
 * retreat when it falls. What a window showed is forgotten by a tenth each time, so that it follows a changing link.
 */
export class FetchLimit {
  readonly #clock: Clock;
  #limit = MIN_FETCHES;
  #windowBegunMs: number;
  #windowBytes = 0;
  #windowCount = 0;
  #bestBytesPerMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#windowBegunMs = clock.monotonicMs();
  }

  /** Requests allowed now, 4 to 64. */
  get current(): number {
    return this.#limit;
  }

  /** To be called when a request has ended well. */
  onFetched(bytes: number): void {
    this.#windowBytes += bytes;
    this.#windowCount += 1;
    const nowMs = this.#clock.monotonicMs();
    const elapsedMs = nowMs - this.#windowBegunMs;
    if (elapsedMs < WINDOW_MS || this.#windowCount < this.#limit) return;
    const rate = this.#windowBytes / elapsedMs;
    if (rate > this.#bestBytesPerMs * GAIN) {
      this.#limit = Math.min(MAX_FETCHES, this.#limit + Math.ceil(this.#limit / 4));
    } else if (rate < this.#bestBytesPerMs * LOSS) {
      this.#limit = Math.max(MIN_FETCHES, Math.floor(this.#limit * 0.75));
    }
    this.#bestBytesPerMs = Math.max(rate, this.#bestBytesPerMs * 0.9);
    this.#windowBegunMs = nowMs;
    this.#windowBytes = 0;
    this.#windowCount = 0;
  }
}
