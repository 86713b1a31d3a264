import type { Clock } from '@dumont/shared/util/clock.ts';
import {
  afterPushback,
  afterWindow,
  startingAt,
  WINDOW_ROUNDS,
  type ConcurrencyBounds,
  type ConcurrencyState,
} from './concurrency-control.ts';
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
import { TokenBucket } from './token-bucket.ts';

export interface AdaptiveLimitOptions {
  readonly clock: Clock;
  readonly maxInFlight: number;
  readonly requestsPerSecond: number | null;
  readonly writesPerKeyPerSecond: number | null;
}

/** Enough to fill a near link from the start, few enough to be polite to a small server. */
const START_IN_FLIGHT = 8;
const MIN_IN_FLIGHT = 2;
/** Shortest window judged: shorter ones show chance. */
const WINDOW_MS = 250;
/** What a request costs beside its body, in bytes, so that small objects and large ones are one measure. */
const REQUEST_WORK_BYTES = 64 * 1024;
/** Keys whose last write is remembered; older ones are long past any limit per key. */
const REMEMBERED_KEYS = 1_024;

/**
 * Runs as many calls of another store at a time as the link and the service take: starts low, grows while that moves
 * more, halves when the service pushes back, and then waits as long as it asks. Keeps to a rate of requests, and of
 * writes to one key. Callers beyond the limit wait in line; what bounds their number and memory is theirs.
 */
export class AdaptiveLimitStore implements ObjectStore {
  readonly #inner: ObjectStore;
  readonly #clock: Clock;
  readonly #bounds: ConcurrencyBounds;
  readonly #requests: TokenBucket | null;
  readonly #msPerKey: number;
  readonly #nextWriteMs = new Map<string, number>();
  readonly #line: (() => void)[] = [];
  #state: ConcurrencyState;
  #inFlight = 0;
  /** Changes with the limit: what began under another one is not measured. */
  #generation = 0;
  #olderInFlight = 0;
  #window: { readonly sinceMs: number; work: number; requests: number; wasFull: boolean } | null = null;
  #quietUntilMs = 0;

  constructor(inner: ObjectStore, options: AdaptiveLimitOptions) {
    const { clock, maxInFlight, requestsPerSecond: rate, writesPerKeyPerSecond } = options;
    this.#inner = inner;
    this.#clock = clock;
    this.#bounds = { min: MIN_IN_FLIGHT, max: maxInFlight };
    this.#requests = rate === null ? null : new TokenBucket({ ratePerSecond: rate, burst: rate / 2, clock });
    this.#msPerKey = writesPerKeyPerSecond === null ? 0 : 1_000 / writesPerKeyPerSecond;
    this.#state = startingAt(Math.min(START_IN_FLIGHT, maxInFlight));
    this.#openWindow();
  }

  /** How many calls may run at a time now. */
  get limit(): number {
    return this.#state.limit;
  }

  put(key: string, bytes: Uint8Array, options?: PutOptions): Promise<'stored' | 'exists'> {
    const signal = options?.signal;
    return this.#run(signal, async () => {
      await this.#waitForKey(key, signal);
      try {
        return { result: await this.#inner.put(key, bytes, options), bytes: bytes.length };
      } finally {
        this.#rememberWrite(key, this.#clock.monotonicMs());
      }
    });
  }

  get(key: string, options?: GetOptions): Promise<Uint8Array> {
    return this.#run(options?.signal, async () => {
      const bytes = await this.#inner.get(key, options);
      return { result: bytes, bytes: bytes.length };
    });
  }

  stat(key: string, options?: CallOptions): Promise<ObjectStat | null> {
    return this.#run(options?.signal, async () => ({ result: await this.#inner.stat(key, options), bytes: 0 }));
  }

  /** Listings are one request after another and take no place; a consumer may stop in the middle of one. */
  async *list(prefix: string, options?: CallOptions): AsyncIterable<ObjectInfo> {
    const generation = this.#generation;
    await this.#pace(options?.signal);
    try {
      yield* this.#inner.list(prefix, options);
    } catch (error) {
      this.#learn(error, generation);
      throw error;
    }
  }

  delete(key: string, options?: CallOptions): Promise<void> {
    return this.#run(options?.signal, async () => {
      await this.#inner.delete(key, options);
      return { result: undefined, bytes: 0 };
    });
  }

  async #run<Result>(
    signal: AbortSignal | undefined,
    call: () => Promise<{ readonly result: Result; readonly bytes: number }>,
  ): Promise<Result> {
    const generation = await this.#enter(signal);
    let work = 0;
    try {
      await this.#pace(signal);
      const { result, bytes } = await call();
      work = bytes + REQUEST_WORK_BYTES;
      return result;
    } catch (error) {
      this.#learn(error, generation);
      throw error;
    } finally {
      this.#leave(generation, work);
    }
  }

  /** Waits for a place. @returns the generation in which it was taken */
  async #enter(signal: AbortSignal | undefined): Promise<number> {
    throwIfAborted(signal);
    if (this.#inFlight < this.#state.limit) {
      this.#inFlight += 1;
      return this.#generation;
    }
    if (this.#window !== null) this.#window.wasFull = true;
    try {
      return await this.#waitInLine(signal);
    } catch (reason) {
      throwIfAborted(signal);
      throw reason;
    }
  }

  #waitInLine(signal: AbortSignal | undefined): Promise<number> {
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        this.#line.splice(this.#line.indexOf(admit), 1);
        reject(signal?.reason as Error);
      };
      const admit = () => {
        signal?.removeEventListener('abort', onAbort);
        this.#inFlight += 1;
        resolve(this.#generation);
      };
      this.#line.push(admit);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  #leave(generation: number, work: number): void {
    this.#inFlight -= 1;
    if (generation === this.#generation) {
      if (this.#window !== null && work > 0) {
        this.#window.work += work;
        this.#window.requests += 1;
      }
    } else {
      this.#olderInFlight -= 1;
      if (this.#olderInFlight === 0) this.#openWindow();
    }
    this.#judgeWindow();
    while (this.#inFlight < this.#state.limit) {
      const admit = this.#line.shift();
      if (admit === undefined) break;
      admit();
    }
  }

  #openWindow(): void {
    this.#window = { sinceMs: this.#clock.monotonicMs(), work: 0, requests: 0, wasFull: this.#line.length > 0 };
  }

  #judgeWindow(): void {
    const seen = this.#window;
    if (seen === null || seen.requests < WINDOW_ROUNDS[this.#state.phase] * this.#state.limit) return;
    const elapsedMs = this.#clock.monotonicMs() - seen.sinceMs;
    if (elapsedMs < WINDOW_MS) return;
    const sample = { workPerSecond: (seen.work / elapsedMs) * 1_000, wasFull: seen.wasFull };
    this.#enterState(afterWindow(this.#state, sample, this.#bounds));
  }

  #enterState(next: ConcurrencyState): void {
    const isOtherLimit = next.limit !== this.#state.limit;
    this.#state = next;
    if (isOtherLimit) {
      this.#generation += 1;
      this.#olderInFlight = this.#inFlight;
    }
    this.#window = null;
    if (this.#olderInFlight === 0 || !isOtherLimit) this.#openWindow();
  }

  /** One burst of refusals is one sign: calls begun before the last change do not halve it again. */
  #learn(error: unknown, generation: number): void {
    if (!(error instanceof StoreFailure) || !error.answer.isPushback) return;
    this.#quietUntilMs = Math.max(this.#quietUntilMs, this.#clock.monotonicMs() + (error.answer.retryAfterMs ?? 0));
    if (generation !== this.#generation) return;
    this.#enterState(afterPushback(this.#state, this.#bounds));
  }

  async #pace(signal: AbortSignal | undefined): Promise<void> {
    try {
      const waitMs = this.#quietUntilMs - this.#clock.monotonicMs();
      if (waitMs > 0) await this.#clock.sleep(waitMs, signal);
      await this.#requests?.take(1, signal);
    } catch (reason) {
      throwIfAborted(signal);
      throw reason;
    }
  }

  async #waitForKey(key: string, signal: AbortSignal | undefined): Promise<void> {
    const nowMs = this.#clock.monotonicMs();
    const dueMs = Math.max(nowMs, this.#nextWriteMs.get(key) ?? 0);
    this.#rememberWrite(key, dueMs);
    if (dueMs === nowMs) return;
    await this.#clock.sleep(dueMs - nowMs, signal).catch((reason: unknown) => {
      throwIfAborted(signal);
      throw reason;
    });
  }

  /** Counts from the end of a write too: only then is it certain that the service has seen it. */
  #rememberWrite(key: string, atMs: number): void {
    if (this.#msPerKey === 0) return;
    const nextMs = Math.max(this.#nextWriteMs.get(key) ?? 0, atMs + this.#msPerKey);
    this.#nextWriteMs.delete(key);
    this.#nextWriteMs.set(key, nextMs);
    const [oldest] = this.#nextWriteMs.keys();
    if (this.#nextWriteMs.size > REMEMBERED_KEYS && oldest !== undefined) this.#nextWriteMs.delete(oldest);
  }
}
