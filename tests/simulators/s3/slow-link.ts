import type { Clock } from '@dumont/shared/util/clock.ts';

/** A wire that all transfers share: bytes pass one after another at its rate. */
export class SlowLink {
  readonly #bytesPerSecond: number;
  readonly #clock: Clock;
  #freeMs = 0;

  constructor(bytesPerSecond: number, clock: Clock) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#clock = clock;
  }

  /** Resolves when that many bytes have passed. */
  async pass(bytes: number): Promise<void> {
    const nowMs = this.#clock.monotonicMs();
    this.#freeMs = Math.max(nowMs, this.#freeMs) + (bytes / this.#bytesPerSecond) * 1_000;
    await this.#clock.sleep(this.#freeMs - nowMs);
  }
}

/** Counts what happens in the second before, for each name. */
export class RateCounter {
  readonly #times = new Map<string, number[]>();

  /** True, and counted, when fewer than `perSecond` happened in the last second; null allows everything. */
  allows(name: string, perSecond: number | null, nowMs: number): boolean {
    if (perSecond === null) return true;
    const recent = (this.#times.get(name) ?? []).filter((timeMs) => timeMs > nowMs - 1_000);
    const isAllowed = recent.length < perSecond;
    this.#times.set(name, isAllowed ? [...recent, nowMs] : recent);
    return isAllowed;
  }
}
