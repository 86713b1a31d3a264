import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import type { GetOptions, ObjectInfo, ObjectStore, PutOptions } from '@dumont/agent/storage/object-store.ts';

interface StoredObject {
  readonly bytes: Uint8Array;
  readonly modifiedMs: number;
}

/** One request on its way. */
interface Request {
  readonly actor: Actor;
  readonly apply: () => unknown;
  /** Null once nobody waits for the answer: the request may still arrive. */
  answer: { readonly resolve: (value: unknown) => void; readonly reject: (error: unknown) => void } | null;
}

/** A program that uses the store; a killed one is never heard of again, but for requests already on their way. */
export interface Actor {
  readonly name: string;
  isAlive: boolean;
}

/** Keys a page of a listing holds: few, so that much can happen in the middle of one. */
const PAGE_KEYS = 4;
/** Store time that one request takes. */
const REQUEST_MS = 100;
/** Share of answers that get lost. */
const LOSS = 0.02;

/**
 * An object store in memory for simulations: every request of every program waits until the seeded schedule picks it, one
 * at a time, so that one seed is one interleaving. Answers get lost, listings are not atomic, and what a killed program had
 * on its way arrives later or never.
 */
export class ScheduledStore {
  readonly objects = new Map<string, StoredObject>();
  readonly #random: Random;
  readonly #requests: Request[] = [];
  /** Called after every change; throws to end the run. */
  readonly #onChange: (change: {
    readonly type: 'put' | 'delete';
    readonly key: string;
    readonly actor: string;
  }) => void;
  readonly #lossShare: number;
  nowMs = 1_000_000;
  requestCount = 0;

  constructor(
    random: Random,
    onChange: (change: { readonly type: 'put' | 'delete'; readonly key: string; readonly actor: string }) => void,
    options: { readonly lossShare?: number } = {},
  ) {
    this.#random = random;
    this.#onChange = onChange;
    this.#lossShare = options.lossShare ?? LOSS;
  }

  /** The keys stored now, ascending. */
  keys(prefix: string): readonly string[] {
    return [...this.objects.keys()].filter((key) => key.startsWith(prefix)).toSorted();
  }

  /** The clock of a program; sleeping is a request like any other, so that it takes its turn. */
  clockOf(actor: Actor, skewMs = 0): Clock {
    return {
      nowMs: () => this.nowMs + skewMs,
      monotonicMs: () => this.nowMs,
      sleep: async (ms) => {
        const untilMs = this.nowMs + ms;
        while (this.nowMs < untilMs) await this.#request(actor, () => undefined, 0);
      },
      after: () => {
        throw new Error('the programs simulated use no timers');
      },
      every: () => {
        throw new Error('the programs simulated use no timers');
      },
    };
  }

  /** The store as one program sees it. */
  viewOf(actor: Actor): ObjectStore {
    const request = <Result>(apply: () => Result) => this.#request(actor, apply, this.#lossShare);
    return {
      put: (key: string, bytes: Uint8Array, options?: PutOptions) =>
        request(() => {
          if (options?.ifAbsent === true && this.objects.has(key)) return 'exists' as const;
          this.objects.set(key, { bytes, modifiedMs: this.nowMs });
          this.#onChange({ type: 'put', key, actor: actor.name });
          return 'stored' as const;
        }),
      get: (key: string, options?: GetOptions) =>
        request(() => {
          const found = this.objects.get(key);
          if (found === undefined) throw new DumontError('NOT_FOUND', `there is no object ${key}`);
          const { offset = 0, length = found.bytes.length } = options?.range ?? {};
          return found.bytes.subarray(offset, offset + length);
        }),
      stat: (key: string) =>
        request(() => {
          const found = this.objects.get(key);
          return found === undefined ? null : { sizeBytes: found.bytes.length };
        }),
      list: (prefix: string) => this.#list(actor, prefix),
      delete: (key: string) =>
        request(() => {
          if (this.objects.delete(key)) this.#onChange({ type: 'delete', key, actor: actor.name });
        }),
    };
  }

  /** Ends a program as `kill -9` does. */
  kill(actor: Actor): void {
    actor.isAlive = false;
    for (const request of this.#requests.filter((one) => one.actor === actor)) {
      request.answer = null;
      if (this.#random.next() < 0.5) this.#requests.splice(this.#requests.indexOf(request), 1);
    }
  }

  /** Lets one request happen. @returns false when there is none */
  async step(): Promise<boolean> {
    // Everything that follows from the last answer has happened when the immediates run.
    await new Promise((resolve) => setImmediate(resolve));
    if (this.#requests.length === 0) return false;
    const [request] = this.#requests.splice(Math.floor(this.#random.next() * this.#requests.length), 1);
    if (request === undefined) return false;
    this.nowMs += REQUEST_MS;
    this.requestCount += 1;
    request.apply();
    return true;
  }

  async *#list(actor: Actor, prefix: string): AsyncIterable<ObjectInfo> {
    for (let last = ''; ;) {
      const page = await this.#request(
        actor,
        () => {
          const keys = this.keys(prefix).filter((key) => key > last);
          const infos = keys.slice(0, PAGE_KEYS).map((key): ObjectInfo => {
            const { bytes, modifiedMs } = this.objects.get(key) ?? { bytes: new Uint8Array(), modifiedMs: 0 };
            return { key, sizeBytes: bytes.length, modifiedMs };
          });
          return { infos, isLast: keys.length <= PAGE_KEYS };
        },
        this.#lossShare,
      );
      for (const info of page.infos) {
        last = info.key;
        yield info;
      }
      if (page.isLast) return;
    }
  }

  #request<Result>(actor: Actor, effect: () => Result, lossShare: number): Promise<Result> {
    const { promise, resolve, reject } = Promise.withResolvers<Result>();
    if (!actor.isAlive) return promise;
    const fate = this.#random.next();
    const isLost = fate < lossShare;
    const request: Request = {
      actor,
      answer: { resolve: (value) => resolve(value as Result), reject },
      apply: () => {
        const lost = () => request.answer?.reject(new DumontError('UNAVAILABLE', 'no answer', { retryable: true }));
        try {
          // Of those without an answer every other one was never carried out.
          if (isLost && fate < lossShare / 2) {
            lost();
            return;
          }
          const result = effect();
          if (isLost) lost();
          else request.answer?.resolve(result);
        } catch (error) {
          if (!(error instanceof DumontError)) throw error;
          request.answer?.reject(error);
        }
      },
    };
    this.#requests.push(request);
    return promise;
  }
}
