import type { Clock } from '@dumont/shared/util/clock.ts';

const TICK_MS = 50;
/** Share of the last value kept at each tick: a stall fades within about a second. */
const DECAY = 0.9;

/** How late this process's event loop runs: the lateness of a 50 ms tick, its peak fading over about a second. */
export class LoopLag implements Disposable {
  readonly #cancel: () => void;
  #lagMs = 0;

  constructor(clock: Clock) {
    let dueMs = clock.monotonicMs() + TICK_MS;
    this.#cancel = clock.every(TICK_MS, () => {
      const nowMs = clock.monotonicMs();
      this.#lagMs = Math.max(nowMs - dueMs, this.#lagMs * DECAY, 0);
      dueMs = nowMs + TICK_MS;
    });
  }

  get lagMs(): number {
    return this.#lagMs;
  }

  [Symbol.dispose](): void {
    this.#cancel();
  }
}
