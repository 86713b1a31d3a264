import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';

/** At most `calls` calls in any `perMs` milliseconds; `calls: 1` is a least pause between two. */
export interface PaceRule {
  readonly calls: number;
  readonly perMs: number;
}

/** More calls waiting for one endpoint mean a loop gone wrong, not a busy day. */
const MAX_WAITING = 1_000;

/**
 * Keeps the calls of one endpoint within a provider's limit, in the order in which they were asked for.
 *
 * A call counts from its answer, and until then as still being made: whenever it reached the provider, that was not
 * later than its answer left. So no window as the provider measures it ever holds more than `calls`, however long the
 * way there.
 */
export class RequestPace {
  readonly #rule: PaceRule;
  readonly #clock: Clock;
  /** When the newest calls were answered, monotonic ms, oldest first. */
  readonly #answered: number[] = [];
  readonly #waiting: (() => void)[] = [];
  #running = 0;
  #heldUntilMs = -Infinity;
  #cancelTimer = () => {};

  constructor(rule: PaceRule, clock: Clock) {
    this.#rule = rule;
    this.#clock = clock;
  }

  /**
   * Does `work` when its turn has come. Rejects with the signal's reason when that aborts first.
   * @throws {DumontError} LIMIT when too many calls wait already
   */
  async run<Result>(work: () => Promise<Result>, signal: AbortSignal): Promise<Result> {
    await this.#admitted(signal);
    try {
      return await work();
    } finally {
      this.#running -= 1;
      this.#answered.push(this.#clock.monotonicMs());
      this.#pump();
    }
  }

  /** No call begins within the next `ms`: the provider said that we were too fast. */
  holdOff(ms: number): void {
    this.#heldUntilMs = Math.max(this.#heldUntilMs, this.#clock.monotonicMs() + ms);
    this.#pump();
  }

  #admitted(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#waiting.length >= MAX_WAITING) {
      throw new DumontError('LIMIT', `${MAX_WAITING} calls wait for their turn already`, { retryable: true });
    }
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        this.#waiting.splice(this.#waiting.indexOf(admit), 1);
        reject(signal.reason as Error);
        this.#pump();
      };
      const admit = () => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(admit);
      this.#pump();
    });
  }

  #pump(): void {
    this.#cancelTimer();
    while (this.#waiting.length > 0) {
      const waitMs = this.#waitMs();
      if (waitMs > 0) {
        // When only answers can make room, their coming pumps again.
        if (waitMs < Infinity) this.#cancelTimer = this.#clock.after(Math.ceil(waitMs), () => this.#pump());
        return;
      }
      this.#running += 1;
      this.#waiting.shift()?.();
    }
  }

  #waitMs(): number {
    const { calls, perMs } = this.#rule;
    const nowMs = this.#clock.monotonicMs();
    while ((this.#answered[0] ?? Infinity) + perMs <= nowMs) this.#answered.shift();
    const heldMs = Math.max(0, this.#heldUntilMs - nowMs);
    const excess = this.#running + this.#answered.length - calls;
    if (excess < 0) return heldMs;
    const freeing = this.#answered[excess];
    return freeing === undefined ? Infinity : Math.max(heldMs, freeing + perMs - nowMs);
  }
}
