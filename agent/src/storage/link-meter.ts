import type { Clock } from '@dumont/shared/util/clock.ts';

/** Shortest time measured as one sample: shorter ones show the bursts of a single answer. */
const SAMPLE_MS = 500;
/** Weight of the newest sample: a changed link shows within a few of them. */
const NEWEST_WEIGHT = 0.3;

/** Measures the bytes a second that pass while at least one transfer runs; idle time does not count. */
export class LinkMeter {
  readonly #clock: Clock;
  #running = 0;
  #resumedMs = 0;
  #busyMs = 0;
  #bytes = 0;
  #rate: number | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Null until half a second of transfers has passed. */
  get bytesPerSecond(): number | null {
    return this.#rate;
  }

  begin(): void {
    if (this.#running === 0) this.#resumedMs = this.#clock.monotonicMs();
    this.#running += 1;
  }

  /** @param bytes what passed; 0 for a transfer that failed */
  end(bytes: number): void {
    const nowMs = this.#clock.monotonicMs();
    this.#busyMs += nowMs - this.#resumedMs;
    this.#resumedMs = nowMs;
    this.#running -= 1;
    this.#bytes += bytes;
    if (this.#busyMs < SAMPLE_MS) return;
    const sample = (this.#bytes / this.#busyMs) * 1_000;
    this.#rate = this.#rate === null ? sample : this.#rate + NEWEST_WEIGHT * (sample - this.#rate);
    this.#busyMs = 0;
    this.#bytes = 0;
  }
}
