import type { BucketGrant } from '@dumont/shared/protocol/storage-grant.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { HeldGrant } from './held-grant.ts';
import {
  throwIfAborted,
  type CallOptions,
  type GetOptions,
  type ObjectInfo,
  type ObjectStat,
  type ObjectStore,
  type PutOptions,
} from './object-store.ts';
import { StoreFailure } from './store-failure.ts';

/** A control plane that restarts is back by then; how often it is waited for is up to whoever repeats the call. */
const RENEWAL_WAIT_MS = 60_000;
/** Our clock may be behind the service's by this much when it says that the keys ran out. */
const CLOCKS_APART_MS = 60_000;

/**
 * Another store, whose keys run out: a call refused for that waits until the keys were renewed, and then fails as one that
 * may be repeated. Put it inside of what repeats, outside of what limits how many calls run.
 */
export class RenewingStore implements ObjectStore {
  readonly #inner: ObjectStore;
  readonly #held: HeldGrant;
  readonly #clock: Clock;

  constructor(inner: ObjectStore, held: HeldGrant, clock: Clock) {
    this.#inner = inner;
    this.#held = held;
    this.#clock = clock;
  }

  put(key: string, bytes: Uint8Array, options?: PutOptions): Promise<'stored' | 'exists'> {
    return this.#run(() => this.#inner.put(key, bytes, options), options?.signal);
  }

  get(key: string, options?: GetOptions): Promise<Uint8Array> {
    return this.#run(() => this.#inner.get(key, options), options?.signal);
  }

  stat(key: string, options?: CallOptions): Promise<ObjectStat | null> {
    return this.#run(() => this.#inner.stat(key, options), options?.signal);
  }

  async *list(prefix: string, options?: CallOptions): AsyncIterable<ObjectInfo> {
    const used = this.#held.current;
    try {
      yield* this.#inner.list(prefix, options);
    } catch (error) {
      throw await this.#afterRenewal(error, used, options?.signal);
    }
  }

  delete(key: string, options?: CallOptions): Promise<void> {
    return this.#run(() => this.#inner.delete(key, options), options?.signal);
  }

  async #run<Result>(call: () => Promise<Result>, signal: AbortSignal | undefined): Promise<Result> {
    const used = this.#held.current;
    try {
      return await call();
    } catch (error) {
      throw await this.#afterRenewal(error, used, signal);
    }
  }

  /** The error to throw, as soon as repeating the call makes sense. */
  async #afterRenewal(error: unknown, used: BucketGrant, signal: AbortSignal | undefined): Promise<unknown> {
    if (!(error instanceof StoreFailure) || !ranOut(error, used, this.#clock.nowMs())) return error;
    try {
      await this.#held.untilOtherThan(used, {
        clock: this.#clock,
        atMostMs: RENEWAL_WAIT_MS,
        signal: signal ?? new AbortController().signal,
      });
    } catch (reason) {
      throwIfAborted(signal);
      throw reason;
    }
    return new StoreFailure('UNAVAILABLE', `${error.message} (the storage grant ran out)`, {
      retryable: true,
      hint: 'A new one comes from the control plane; look there for storage.grant-failed.',
      cause: error,
      answer: { ...error.answer, isPushback: false },
    });
  }
}

/**
 * Services differ in what they say then: AWS `ExpiredToken` with 400, B2 does not know the key id any more, others deny
 * access; and the answer to a HEAD has no body to say it in. Pure.
 */
function ranOut({ answer, code }: StoreFailure, { expiresAtMs }: BucketGrant, nowMs: number): boolean {
  if (answer.providerCode === 'ExpiredToken') return true;
  const isRefusal = code === 'UNAUTHORIZED' || answer.status === 400;
  return isRefusal && expiresAtMs !== undefined && nowMs >= expiresAtMs - CLOCKS_APART_MS;
}
