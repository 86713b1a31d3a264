import type { Clock } from '@dumont/shared/util/clock.ts';

interface Timer {
  readonly dueMs: number;
  readonly order: number;
  readonly fire: () => void;
}

/** A clock that moves only when told; timers fire in due order, then in the order they were set. */
export class ManualClock implements Clock {
  #elapsedMs = 0;
  #wallStartMs: number;
  #timers: Timer[] = [];
  #order = 0;

  constructor(wallStartMs = 1_700_000_000_000) {
    this.#wallStartMs = wallStartMs;
  }

  /** Whole milliseconds, as the system's clock gives them. */
  nowMs(): number {
    return Math.floor(this.#wallStartMs + this.#elapsedMs);
  }

  monotonicMs(): number {
    return this.#elapsedMs;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const cancel = this.after(ms, () => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      });
      const onAbort = () => {
        cancel();
        reject(signal?.reason as Error);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  after(ms: number, callback: () => void): () => void {
    const timer: Timer = { dueMs: this.#elapsedMs + ms, order: this.#order++, fire: callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  every(ms: number, callback: () => void): () => void {
    let cancel = () => {};
    const arm = () => {
      cancel = this.after(ms, () => {
        arm();
        callback();
      });
    };
    arm();
    return () => cancel();
  }

  /** Moves the wall clock alone, as an operator or NTP would. */
  stepWall(ms: number): void {
    this.#wallStartMs += ms;
  }

  /** Lets `ms` pass while the process is stopped: no timer fires until the next `advance`. */
  skip(ms: number): void {
    this.#elapsedMs += ms;
  }

  /** Lets `ms` pass, firing what falls due; awaits between timers so that promise chains settle. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.#elapsedMs + ms;
    for (;;) {
      const next = this.#timers
        .filter((timer) => timer.dueMs <= untilMs)
        .toSorted((a, b) => a.dueMs - b.dueMs || a.order - b.order)[0];
      if (next === undefined) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.#elapsedMs = Math.max(this.#elapsedMs, next.dueMs);
      next.fire();
      await settle();
    }
    this.#elapsedMs = untilMs;
    await settle();
  }
}

/** Lets already resolved promises run their continuations, also through several wrappers of one another. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 50; turn += 1) await Promise.resolve();
}
