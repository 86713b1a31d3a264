import type { Clock } from '@dumont/shared/util/clock.ts';

export interface PulseOptions {
  readonly clock: Clock;
  readonly intervalMs: number;
  /**
   * Called at every beat of the pulse. Must not throw.
   * @param ageMs makes the known age of a change, ms, one that is no less than its true age; 0 stays 0
   * @param beganMs monotonic time: all that happened before has been heard of
   */
  readonly onPulse: (ageMs: (knownMs: number) => number, beganMs: number) => void;
}

/**
 * The main thread's sign of life, each after one turn of the event loop: whatever happened in the file system before the
 * beat began has been heard by then. A change is older than the moment it was heard of, by no more than the longest time
 * between two beats since it happened, and that is added to its age.
 */
export class Pulse implements Disposable {
  readonly #options: PulseOptions;
  readonly #cancel: () => void;
  #lastMs: number;
  #isBusy = false;
  /** The gaps between beats: the last, and the longest since nothing was pending. */
  #gapMs = 0;
  #longestMs = 0;
  #isPending = false;
  #isOver = false;

  /** Beats from here on. */
  constructor(options: PulseOptions) {
    this.#options = options;
    this.#lastMs = options.clock.monotonicMs();
    this.#cancel = options.clock.every(options.intervalMs, () => this.#begin());
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    this.#cancel();
  }

  /** Timers come before the loop looks for events, immediates after it. */
  #begin(): void {
    if (this.#isBusy) return;
    this.#isBusy = true;
    const nowMs = this.#options.clock.monotonicMs();
    this.#gapMs = nowMs - this.#lastMs;
    this.#lastMs = nowMs;
    setImmediate(() => this.#end());
  }

  #end(): void {
    this.#isBusy = false;
    if (this.#isOver) return;
    this.#longestMs = this.#isPending ? Math.max(this.#longestMs, this.#gapMs) : this.#gapMs;
    this.#isPending = false;
    this.#options.onPulse((knownMs) => {
      if (knownMs <= 0) return 0;
      this.#isPending = true;
      return knownMs + this.#longestMs;
    }, this.#lastMs);
  }
}
