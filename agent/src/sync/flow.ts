import type { Clock } from '@dumont/shared/util/clock.ts';
import { Bell } from '@dumont/shared/util/bell.ts';

/** Most bytes under way: what a standby may have to hold, and enough for 160 MB/s over 100 ms. */
const MAX_WINDOW_BYTES = 16 * 1024 * 1024;
/** Fewer would stand still between two signs of progress. */
const MIN_WINDOW_BYTES = 768 * 1024;
/** How long a small edit may have to wait behind what a large file put under way. */
const QUEUE_MS = 40;
/** The round trip is measured anew now and then, because routes change. */
const ROUND_TRIP_MEMORY_MS = 30_000;
const RATE_WEIGHT = 0.3;
const WAIT_MS = 60_000;

/**
 * How much may be under way to the standby. Large files get as much as the link carries in a round trip and a little, so
 * that what comes after them does not stand in a long queue; small things may go up to the whole window.
 */
export class Flow {
  readonly #clock: Clock;
  readonly #bell = new Bell();
  #sentBytes = 0;
  #doneBytes = 0;
  #probe: { readonly bytes: number; readonly atMs: number } | null = null;
  #roundTrip = { ms: Infinity, atMs: -Infinity };
  #lastMs: number;
  #rate = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#lastMs = clock.monotonicMs();
  }

  get underWayBytes(): number {
    return this.#sentBytes - this.#doneBytes;
  }

  get sentBytes(): number {
    return this.#sentBytes;
  }

  sent(bytes: number): void {
    const nowMs = this.#clock.monotonicMs();
    if (this.underWayBytes === 0) this.#lastMs = nowMs;
    this.#sentBytes += bytes;
    this.#probe ??= { bytes: this.#sentBytes, atMs: nowMs };
  }

  /** @param bytes dealt with by the standby since the session began */
  done(bytes: number): void {
    const nowMs = this.#clock.monotonicMs();
    const elapsedMs = nowMs - this.#lastMs;
    if (elapsedMs > 0) {
      const sample = (bytes - this.#doneBytes) / elapsedMs;
      this.#rate += RATE_WEIGHT * (sample - this.#rate);
    }
    this.#lastMs = nowMs;
    this.#doneBytes = Math.min(this.#sentBytes, Math.max(this.#doneBytes, bytes));
    if (this.#probe !== null && bytes >= this.#probe.bytes) {
      const ms = nowMs - this.#probe.atMs;
      if (ms < this.#roundTrip.ms || nowMs - this.#roundTrip.atMs > ROUND_TRIP_MEMORY_MS) {
        this.#roundTrip = { ms, atMs: nowMs };
      }
      this.#probe = null;
    }
    this.#bell.ring();
  }

  /** True when a large file may send more now. */
  get hasRoomForLarge(): boolean {
    const ms = Math.min(1_000, this.#roundTrip.ms) + QUEUE_MS;
    const window = Math.min(MAX_WINDOW_BYTES / 2, Math.max(MIN_WINDOW_BYTES, this.#rate * ms));
    return this.underWayBytes < window;
  }

  /** Waits until anything small may be sent. */
  async room(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    while (this.underWayBytes > MAX_WINDOW_BYTES / 2) {
      await this.#bell.wait({ clock: this.#clock, atMostMs: WAIT_MS, signal });
    }
  }
}
