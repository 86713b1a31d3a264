import { backoffMs } from '@dumont/shared/util/backoff.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { isDumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import type { CallOptions, GetOptions, ObjectInfo, ObjectStore, PutOptions } from './object-store.ts';
import { throwIfAborted } from './object-store.ts';

/** Six calls over at most half a minute of waiting: rides out a rate limit or a restart, gives up on an outage. */
const MAX_ATTEMPTS = 6;
const BACKOFF = { baseMs: 200, capMs: 10_000 };

export interface RetryOptions {
  readonly clock: Clock;
  readonly random: Random;
}

/**
 * Repeats calls of another store that fail with a retryable error, with jittered exponential waits, at most
 * {@link MAX_ATTEMPTS} calls. A put whose first answer got lost may report `exists` for the caller's own bytes.
 */
export class RetryStore implements ObjectStore {
  readonly #inner: ObjectStore;
  readonly #options: RetryOptions;

  constructor(inner: ObjectStore, options: RetryOptions) {
    this.#inner = inner;
    this.#options = options;
  }

  put(key: string, bytes: Uint8Array, options?: PutOptions): Promise<'stored' | 'exists'> {
    return this.#retry(() => this.#inner.put(key, bytes, options), options?.signal);
  }

  get(key: string, options?: GetOptions): Promise<Uint8Array> {
    return this.#retry(() => this.#inner.get(key, options), options?.signal);
  }

  stat(key: string, options?: CallOptions): Promise<{ readonly sizeBytes: number } | null> {
    return this.#retry(() => this.#inner.stat(key, options), options?.signal);
  }

  /** A failed page starts the listing again and skips what was already given. */
  async *list(prefix: string, options?: CallOptions): AsyncIterable<ObjectInfo> {
    let last: string | null = null;
    for (let attempt = 0; ; attempt += 1) {
      try {
        for await (const info of this.#inner.list(prefix, options)) {
          if (last !== null && info.key <= last) continue;
          last = info.key;
          yield info;
        }
        return;
      } catch (error) {
        await this.#waitOrThrow(error, attempt, options?.signal);
      }
    }
  }

  delete(key: string, options?: CallOptions): Promise<void> {
    return this.#retry(() => this.#inner.delete(key, options), options?.signal);
  }

  async #retry<Result>(call: () => Promise<Result>, signal: AbortSignal | undefined): Promise<Result> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await call();
      } catch (error) {
        await this.#waitOrThrow(error, attempt, signal);
      }
    }
  }

  async #waitOrThrow(error: unknown, attempt: number, signal: AbortSignal | undefined): Promise<void> {
    if (!isDumontError(error) || !error.retryable || attempt + 1 >= MAX_ATTEMPTS) throw error;
    throwIfAborted(signal);
    try {
      await this.#options.clock.sleep(backoffMs(attempt, BACKOFF, this.#options.random), signal);
    } catch (reason) {
      throwIfAborted(signal);
      throw reason;
    }
  }
}
