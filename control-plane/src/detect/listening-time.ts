/**
 * Time during which this process could hear. A process that was stopped (SIGSTOP, suspended machine, one long
 * computation) finds beats waiting in its sockets afterwards, so the time it was deaf must not count as anyone's
 * silence: listening time stands still meanwhile, and every deadline shifts by exactly as much.
 */
export class ListeningTime {
  readonly #tickEveryMs: number;
  #lastTickMs: number;
  #deafMs = 0;

  /** @param options `nowMs`: monotonic. `tickEveryMs`: how often {@link tick} is called at least while all is well. */
  constructor(options: { readonly nowMs: number; readonly tickEveryMs: number }) {
    this.#lastTickMs = options.nowMs;
    this.#tickEveryMs = options.tickEveryMs;
  }

  /** Proof of being awake. True when the time since the last one was so long that we were deaf for most of it. */
  tick(nowMs: number): boolean {
    const latenessMs = nowMs - this.#lastTickMs - this.#tickEveryMs;
    this.#lastTickMs = nowMs;
    if (latenessMs <= DEAF_AFTER_MS) return false;
    this.#deafMs += latenessMs;
    return true;
  }

  /** A monotonic time not before the last tick, as listening time. */
  at(monotonicMs: number): number {
    return monotonicMs - this.#deafMs;
  }
}

/**
 * Shorter delays are ordinary garbage collection. They do not stop listening time: the detector takes the loop's present
 * lag, up to this bound, off every silence instead.
 */
export const DEAF_AFTER_MS = 100;
