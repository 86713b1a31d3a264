import type { Clock } from './clock.ts';

/**
 * A signal that aborts with its parent, or with a `TimeoutError` once `ms` have passed on the clock. Its timer stands
 * until it is disposed of, so that a call that ended early leaves nothing behind.
 */
export class Deadline implements Disposable {
  readonly signal: AbortSignal;
  readonly #clock: Clock;
  readonly #ms: number;
  readonly #timeout = new AbortController();
  #cancel: () => void;

  /** @param parent what else ends it; without one, time alone does */
  constructor(clock: Clock, ms: number, parent?: AbortSignal) {
    this.#clock = clock;
    this.#ms = ms;
    this.signal = parent === undefined ? this.#timeout.signal : AbortSignal.any([parent, this.#timeout.signal]);
    this.#cancel = this.#arm();
  }

  /** True once the time was up, whatever else aborted the signal. */
  get expired(): boolean {
    return this.#timeout.signal.aborted;
  }

  /** Gives it the whole time again from now; too late once it has expired. */
  extend(): void {
    this.#cancel();
    this.#cancel = this.#arm();
  }

  [Symbol.dispose](): void {
    this.#cancel();
  }

  #arm(): () => void {
    return this.#clock.after(this.#ms, () => {
      this.#timeout.abort(new DOMException(`not done within ${this.#ms} ms`, 'TimeoutError'));
    });
  }
}
