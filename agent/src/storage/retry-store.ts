import { createHash } from 'node:crypto';
import { backoffMs } from '@dumont/shared/util/backoff.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { isDumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import type { CallOptions, GetOptions, ObjectInfo, ObjectStat, ObjectStore, PutOptions } from './object-store.ts';
import { throwIfAborted } from './object-store.ts';
import { StoreFailure } from './store-failure.ts';

/** Six calls over at most half a minute of waiting: rides out a rate limit or a restart, gives up on an outage. */
const MAX_ATTEMPTS = 6;
/** No call begins later than this after the first, however long each took: the caller's own deadlines are minutes. */
const MAX_TOTAL_MS = 300_000;
const BACKOFF = { baseMs: 200, capMs: 10_000 };

export interface RetryOptions {
  readonly clock: Clock;
  readonly random: Random;
}

/**
 * Repeats calls of another store that fail with a retryable error, with jittered exponential waits or the longer one
 * the service asks for, at most {@link MAX_ATTEMPTS} calls within {@link MAX_TOTAL_MS}.
 *
 * A put is not sent again when the object turns out to be there with the same bytes: its answer was lost, or the service
 * refuses a second write of the same key. Then a conditional put says `stored`, which is also what it says in the rare
 * case that another writer stored the very same bytes meanwhile.
 */
export class RetryStore implements ObjectStore {
  readonly #inner: ObjectStore;
  readonly #options: RetryOptions;

  constructor(inner: ObjectStore, options: RetryOptions) {
    this.#inner = inner;
    this.#options = options;
  }

  async put(key: string, bytes: Uint8Array, options?: PutOptions): Promise<'stored' | 'exists'> {
    let mayBeThere = false;
    return this.#retry(async () => {
      if (mayBeThere && (await this.#holds(key, bytes, options))) return 'stored';
      try {
        return await this.#inner.put(key, bytes, options);
      } catch (error) {
        mayBeThere = true;
        throw error;
      }
    }, options?.signal);
  }

  get(key: string, options?: GetOptions): Promise<Uint8Array> {
    return this.#retry(() => this.#inner.get(key, options), options?.signal);
  }

  stat(key: string, options?: CallOptions): Promise<ObjectStat | null> {
    return this.#retry(() => this.#inner.stat(key, options), options?.signal);
  }

  /** A failed page starts the listing again and skips what was already given. */
  async *list(prefix: string, options?: CallOptions): AsyncIterable<ObjectInfo> {
    const beganMs = this.#options.clock.monotonicMs();
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
        await this.#waitOrThrow(error, { attempt, beganMs }, options?.signal);
      }
    }
  }

  delete(key: string, options?: CallOptions): Promise<void> {
    return this.#retry(() => this.#inner.delete(key, options), options?.signal);
  }

  async #retry<Result>(call: () => Promise<Result>, signal: AbortSignal | undefined): Promise<Result> {
    const beganMs = this.#options.clock.monotonicMs();
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await call();
      } catch (error) {
        await this.#waitOrThrow(error, { attempt, beganMs }, signal);
      }
    }
  }

  /**
   * Without the store's MD5 the size speaks alone, the key being one that only these bytes have; but who asked for a
   * conditional put may share the key with others.
   */
  async #holds(key: string, bytes: Uint8Array, options: PutOptions = {}): Promise<boolean> {
    const found = await this.#inner.stat(key, { signal: options.signal });
    if (found === null || found.sizeBytes !== bytes.length) return false;
    if (found.md5 === undefined) return options.ifAbsent !== true;
    return found.md5 === createHash('md5').update(bytes).digest('hex');
  }

  async #waitOrThrow(
    error: unknown,
    { attempt, beganMs }: { readonly attempt: number; readonly beganMs: number },
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { clock, random } = this.#options;
    if (!isDumontError(error) || !error.retryable || attempt + 1 >= MAX_ATTEMPTS) throw error;
    throwIfAborted(signal);
    const askedMs = error instanceof StoreFailure ? (error.answer.retryAfterMs ?? 0) : 0;
    const waitMs = Math.max(askedMs, backoffMs(attempt, BACKOFF, random));
    if (clock.monotonicMs() + waitMs - beganMs > MAX_TOTAL_MS) throw error;
    try {
      await clock.sleep(waitMs, signal);
    } catch (reason) {
      throwIfAborted(signal);
      throw reason;
    }
  }
}
