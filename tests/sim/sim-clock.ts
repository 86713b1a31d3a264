import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';

interface Timer {
  dueMs: number;
  readonly order: number;
  readonly everyMs: number | null;
  readonly fire: () => void;
}

/**
 * Virtual time for millions of events: timers fire in due order, and promises are waited for only after a `sleep` ended,
 * since nothing else in a simulation resolves one. Wall time may run ahead of it by {@link leap}.
 */
export class SimClock implements Clock {
  #nowMs = 0;
  #leaptMs = 0;
  #order = 0;
  #woke = false;
  readonly #timers: Timer[] = [];

  nowMs(): number {
    return Math.floor(WALL_START_MS + this.#nowMs + this.#leaptMs);
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal !== undefined) throw new DumontError('UNSUPPORTED', 'nothing simulated is cancelled');
    return new Promise((resolve) => {
      this.after(ms, () => {
        this.#woke = true;
        resolve();
      });
    });
  }

  after(ms: number, callback: () => void): () => void {
    return this.#add({ dueMs: this.#nowMs + ms, order: this.#order++, everyMs: null, fire: callback });
  }

  every(ms: number, callback: () => void): () => void {
    return this.#add({ dueMs: this.#nowMs + ms, order: this.#order++, everyMs: ms, fire: callback });
  }

  /** Quiet time that is left out: the wall clock alone moves. */
  leap(ms: number): void {
    this.#leaptMs += ms;
  }

  /** The process is stopped for so long: no timer fires meanwhile. */
  stop(ms: number): void {
    this.#nowMs += ms;
    // A periodic timer of a real process fires once afterwards, not once for each period that it missed.
    for (const timer of this.#timers) if (timer.everyMs !== null) timer.dueMs = Math.max(timer.dueMs, this.#nowMs);
  }

  /** Fires what falls due until then. */
  async run(untilMs: number): Promise<void> {
    for (let next = this.#next(); next !== undefined && next.dueMs <= untilMs; next = this.#next()) {
      this.#nowMs = Math.max(this.#nowMs, next.dueMs);
      if (next.everyMs === null) this.#remove(next);
      else next.dueMs += next.everyMs;
      next.fire();
      if (this.#woke) {
        this.#woke = false;
        for (let turn = 0; turn < SETTLE_TURNS; turn += 1) await Promise.resolve();
      }
    }
    this.#nowMs = Math.max(this.#nowMs, untilMs);
  }

  /** A handful of timers: looking at all of them is faster than keeping them in order. */
  #next(): Timer | undefined {
    let next: Timer | undefined;
    for (const timer of this.#timers) {
      if (next === undefined || timer.dueMs < next.dueMs || (timer.dueMs === next.dueMs && timer.order < next.order)) {
        next = timer;
      }
    }
    return next;
  }

  #add(timer: Timer): () => void {
    this.#timers.push(timer);
    return () => this.#remove(timer);
  }

  #remove(timer: Timer): void {
    const index = this.#timers.indexOf(timer);
    if (index >= 0) this.#timers.splice(index, 1);
  }
}

const WALL_START_MS = 1_700_000_000_000;

/** More than the awaits between the end of a probe and the judgement of what it found. */
const SETTLE_TURNS = 12;
