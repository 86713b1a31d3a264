/**
 * When the next heartbeat is due: the estimator of NFD-E (W. Chen, S. Toueg, M. Aguilera, "On the Quality of Service of
 * Failure Detectors", IEEE Transactions on Computers 51(5), 2002, §5). With A_i the arrival of beat i and S_i its send
 * time on the sender's own monotonic clock, over the last n beats:
 *
 *   offset_i = A_i − S_i        (path delay plus the unknown, constant difference of the two clocks)
 *   EA       = mean(offset) + S_last + interval
 *
 * The paper sends at exactly i·interval and uses that for S_i; the sender's stamp keeps the mean unbiased when its timer
 * drifts or skips. A late beat enters the mean clamped, so that one stall does not buy every later failure more time.
 */
export class ArrivalEstimator {
  readonly #intervalMs: number;
  readonly #clampMs: number;
  readonly #offsetsMs = new Float64Array(WINDOW_BEATS);
  #count = 0;
  #next = 0;
  #sumMs = 0;
  #lastSentMs = Number.NEGATIVE_INFINITY;
  #lastArrivalMs = 0;
  /** Arrival of the first beat of an unbroken row of clamped ones, null while beats are on time. */
  #lateSinceMs: number | null = null;

  /** @param options `intervalMs`: the sender's period. `clampMs`: how far above the mean one offset may count. */
  constructor(options: { readonly intervalMs: number; readonly clampMs: number }) {
    this.#intervalMs = options.intervalMs;
    this.#clampMs = options.clampMs;
  }

  /** Books one beat; both times in ms, each on its own side's monotonic clock. */
  observe(sentMs: number, arrivalMs: number): void {
    let offsetMs = arrivalMs - sentMs;
    if (sentMs < this.#lastSentMs || this.#isOtherClock(offsetMs, arrivalMs)) this.reset();
    if (this.#count > 0) offsetMs = Math.min(offsetMs, this.#meanMs() + this.#clampMs);
    this.#push(offsetMs);
    this.#lastSentMs = sentMs;
    this.#lastArrivalMs = arrivalMs;
  }

  /** From the last arrival to the expected one, ms; the plain interval before the first beat. May be negative after a late beat. */
  expectedGapMs(): number {
    if (this.#count === 0) return this.#intervalMs;
    return this.#meanMs() + this.#lastSentMs + this.#intervalMs - this.#lastArrivalMs;
  }

  /** Forgets everything: the sender's clock started anew. */
  reset(): void {
    this.#count = 0;
    this.#next = 0;
    this.#sumMs = 0;
    this.#lastSentMs = Number.NEGATIVE_INFINITY;
    this.#lateSinceMs = null;
  }

  #meanMs(): number {
    return this.#sumMs / this.#count;
  }

  /**
   * A beat far *earlier* than the mean, or a row of clamped beats that spans more than a queue could explain, is not
   * about the path: the sender's clock jumped, or its machine was suspended.
   */
  #isOtherClock(offsetMs: number, arrivalMs: number): boolean {
    if (this.#count === 0) return false;
    const excessMs = offsetMs - this.#meanMs();
    if (excessMs < -CLOCK_JUMP_MS) return true;
    if (excessMs <= this.#clampMs) {
      this.#lateSinceMs = null;
      return false;
    }
    this.#lateSinceMs ??= arrivalMs;
    return arrivalMs - this.#lateSinceMs > CLAMPED_ROW_MS;
  }

  #push(offsetMs: number): void {
    if (this.#count === WINDOW_BEATS) this.#sumMs -= this.#offsetsMs[this.#next] ?? 0;
    else this.#count += 1;
    this.#offsetsMs[this.#next] = offsetMs;
    this.#sumMs += offsetMs;
    this.#next = (this.#next + 1) % WINDOW_BEATS;
    // One exact sum per turn of the ring keeps rounding errors from piling up over weeks.
    if (this.#next === 0) this.#sumMs = this.#offsetsMs.reduce((sum, value) => sum + value, 0);
  }
}

/** 40 s at five beats a second: long enough for a steady mean, short enough to follow a changed path. */
export const WINDOW_BEATS = 200;

/** More than any path's delay varies downwards. */
const CLOCK_JUMP_MS = 5_000;

/** A queue of held beats drains within a moment; a row of late ones this long is the new normal. */
const CLAMPED_ROW_MS = 5_000;
