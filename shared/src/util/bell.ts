import type { Clock } from './clock.ts';

/** Wakes whoever waits for "something changed"; what changed is for the waiter to look up. */
export class Bell {
  #ring = Promise.withResolvers<void>();

  ring(): void {
    this.#ring.resolve();
    this.#ring = Promise.withResolvers<void>();
  }

  /**
   * Resolves at the next ring or after `atMostMs`, whichever comes first.
   * @throws the signal's reason when aborted
   */
  async wait(options: {
    readonly clock: Clock;
    readonly atMostMs: number;
    readonly signal: AbortSignal;
  }): Promise<void> {
    options.signal.throwIfAborted();
    const over = Promise.withResolvers<void>();
    const cancel = options.clock.after(options.atMostMs, () => over.resolve());
    const onAbort = () => over.reject(options.signal.reason);
    options.signal.addEventListener('abort', onAbort, { once: true });
    try {
      await Promise.race([this.#ring.promise, over.promise]);
    } finally {
      cancel();
      options.signal.removeEventListener('abort', onAbort);
    }
  }
}
