import type { Clock } from '@dumont/shared/util/clock.ts';

interface Timer {
  dueMs: number;
  readonly order: number;
  readonly everyMs: number | null;
  readonly fire: () => void;
  isCancelled: boolean;
}

const WALL_START_MS = 1_700_000_000_000;

/** Time that passes only while nothing is left to do: timers fire in due order, then in the order they were set. */
export class VirtualClock implements Clock {
  #nowMs = 0;
  #order = 0;
  /** A heap, the earliest first. */
  readonly #timers: Timer[] = [];

  nowMs(): number {
    return Math.floor(WALL_START_MS + this.#nowMs);
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return sleepOn(this, ms, signal);
  }

  after(ms: number, callback: () => void): () => void {
    return this.#add(ms, null, callback);
  }

  every(ms: number, callback: () => void): () => void {
    return this.#add(ms, ms, callback);
  }

  /** Lets time pass until then; `settle` resolves when all that a timer set off has come to rest. */
  async run(untilMs: number, settle: () => Promise<void>): Promise<void> {
    await settle();
    for (;;) {
      const next = this.#timers[0];
      if (next === undefined || next.dueMs > untilMs) break;
      this.#pop();
      if (next.isCancelled) continue;
      this.#nowMs = Math.max(this.#nowMs, next.dueMs);
      if (next.everyMs !== null) {
        next.dueMs += next.everyMs;
        this.#push(next);
      }
      next.fire();
      await settle();
    }
    this.#nowMs = Math.max(this.#nowMs, untilMs);
  }

  #add(ms: number, everyMs: number | null, fire: () => void): () => void {
    const timer = { dueMs: this.#nowMs + ms, order: this.#order++, everyMs, fire, isCancelled: false };
    this.#push(timer);
    return () => {
      timer.isCancelled = true;
    };
  }

  #push(timer: Timer): void {
    const heap = this.#timers;
    let at = heap.push(timer) - 1;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (!isBefore(timer, heap[above])) break;
      this.#put(at, heap[above]);
      at = above;
    }
    heap[at] = timer;
  }

  #pop(): void {
    const heap = this.#timers;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      const [left, right] = [2 * at + 1, 2 * at + 2];
      const below = isBefore(heap[right], heap[left]) ? right : left;
      if (!isBefore(heap[below], last)) break;
      this.#put(at, heap[below]);
      at = below;
    }
    heap[at] = last;
  }

  #put(at: number, timer: Timer | undefined): void {
    if (timer !== undefined) this.#timers[at] = timer;
  }
}

/** The clock of one process that can be stopped: what falls due meanwhile fires when it goes on. */
export class StoppableClock implements Clock {
  readonly #clock: Clock;
  readonly #held = new Set<() => void>();
  #isStopped = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get isStopped(): boolean {
    return this.#isStopped;
  }

  nowMs(): number {
    return this.#clock.nowMs();
  }

  monotonicMs(): number {
    return this.#clock.monotonicMs();
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return sleepOn(this, ms, signal);
  }

  after(ms: number, callback: () => void): () => void {
    const fire = () => this.#hold(callback);
    const cancel = this.#clock.after(ms, fire);
    return () => this.#cancel(cancel, callback);
  }

  every(ms: number, callback: () => void): () => void {
    const cancel = this.#clock.every(ms, () => this.#hold(callback));
    return () => this.#cancel(cancel, callback);
  }

  stop(): void {
    this.#isStopped = true;
  }

  /** Timers first, as in a process that was stopped: what waits in its sockets is read after them. */
  goOn(): void {
    this.#isStopped = false;
    const held = [...this.#held];
    this.#held.clear();
    for (const fire of held) fire();
  }

  #hold(callback: () => void): void {
    // A periodic timer fires once afterwards, not once for each period that it missed.
    if (this.#isStopped) this.#held.add(callback);
    else callback();
  }

  #cancel(cancel: () => void, callback: () => void): void {
    cancel();
    this.#held.delete(callback);
  }
}

function sleepOn(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(signal.reason as Error);
      return;
    }
    const onAbort = () => {
      cancel();
      reject(signal?.reason as Error);
    };
    const cancel = clock.after(ms, () => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    });
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

function isBefore(a: Timer | undefined, b: Timer | undefined): boolean {
  if (a === undefined) return false;
  if (b === undefined) return true;
  return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.order < b.order);
}
