import { expect, test } from 'vitest';
import { AdaptiveLimitStore } from '@dumont/agent/storage/adaptive-limit.ts';
import type { ObjectStore } from '@dumont/agent/storage/object-store.ts';
import { StoreFailure } from '@dumont/agent/storage/store-failure.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { ManualClock } from '../../../world/manual-clock.ts';

interface Link {
  /** Every request takes it beside its bytes. */
  readonly latencyMs: number;
  /** All running requests share it. */
  readonly bytesPerSecond: number;
  /** More at a time are refused. */
  readonly maxInFlight?: number;
  readonly retryAfterMs?: number;
}

/** A store that only counts, behind a link whose bytes pass one after another. */
class LinkStore implements ObjectStore {
  link: Link;
  inFlight = 0;
  peak = 0;
  refused = 0;
  stored = 0;
  readonly startsMs: number[] = [];
  readonly #clock: ManualClock;
  #freeMs = 0;

  constructor(clock: ManualClock, link: Link) {
    this.#clock = clock;
    this.link = link;
  }

  async put(_key: string, bytes: Uint8Array): Promise<'stored'> {
    const { latencyMs, bytesPerSecond, maxInFlight = Infinity, retryAfterMs } = this.link;
    const nowMs = this.#clock.monotonicMs();
    this.startsMs.push(nowMs);
    this.inFlight += 1;
    this.peak = Math.max(this.peak, this.inFlight);
    try {
      if (this.inFlight > maxInFlight) {
        await this.#clock.sleep(latencyMs);
        this.refused += 1;
        const answer = { providerCode: 'SlowDown', status: 503, retryAfterMs, isPushback: true };
        throw new StoreFailure('UNAVAILABLE', 'slow down', { retryable: true, answer });
      }
      this.#freeMs = Math.max(nowMs, this.#freeMs) + (bytes.length / bytesPerSecond) * 1_000;
      await this.#clock.sleep(Math.max(latencyMs, this.#freeMs - nowMs));
      this.stored += 1;
      return 'stored';
    } finally {
      this.inFlight -= 1;
    }
  }

  get(): Promise<Uint8Array> {
    return Promise.reject(new DumontError('NOT_FOUND', 'nothing is kept'));
  }

  stat(): Promise<null> {
    return Promise.resolve(null);
  }

  async *list(): AsyncIterable<never> {}

  delete(): Promise<void> {
    return Promise.resolve();
  }
}

interface Load {
  readonly callers: number;
  readonly bytes: number;
  readonly forMs: number;
}

function setUp(link: Link, options: { readonly rps?: number; readonly perKey?: number; readonly max?: number } = {}) {
  const clock = new ManualClock();
  const inner = new LinkStore(clock, link);
  const store = new AdaptiveLimitStore(inner, {
    clock,
    maxInFlight: options.max ?? 64,
    requestsPerSecond: options.rps ?? null,
    writesPerKeyPerSecond: options.perKey ?? null,
  });
  return { clock, inner, store };
}

/** Lets time pass, after what was begun has reached its first wait. */
async function pass(clock: ManualClock, ms: number): Promise<void> {
  await clock.advance(0);
  await clock.advance(ms);
}

/** That many callers put one object after another, whatever comes of each, for a while. */
async function load({ clock, store }: ReturnType<typeof setUp>, { callers, bytes, forMs }: Load): Promise<void> {
  const body = new Uint8Array(bytes);
  const untilMs = clock.monotonicMs() + forMs;
  let n = 0;
  const caller = async () => {
    while (clock.monotonicMs() < untilMs) {
      n += 1;
      await store.put(`k${n}`, body).catch((error: unknown) => {
        if (!(error instanceof StoreFailure)) throw error;
      });
    }
  };
  const all = Promise.all(Array.from({ length: callers }, caller));
  await pass(clock, forMs);
  await pass(clock, 30_000);
  await all;
}

const MB = 1_000_000;

test('a link with latency and room gets as many requests as the profile allows', async () => {
  const world = setUp({ latencyMs: 100, bytesPerSecond: 10_000 * MB });
  await load(world, { callers: 100, bytes: MB, forMs: 20_000 });
  expect(world.store.limit).toBe(64);
  expect(world.inner.peak).toBe(64);
});

test('a link that a few requests fill gets few, and stays full', async () => {
  const world = setUp({ latencyMs: 20, bytesPerSecond: 10 * MB });
  await load(world, { callers: 100, bytes: MB, forMs: 60_000 });
  expect(world.store.limit).toBeLessThanOrEqual(16);
  expect((world.inner.stored / 60) * MB).toBeGreaterThan(9 * MB);
});

test('a service that refuses more than it takes is refused rarely, and used nearly whole', async () => {
  const world = setUp({ latencyMs: 100, bytesPerSecond: 10_000 * MB, maxInFlight: 20 });
  await load(world, { callers: 100, bytes: 1_000, forMs: 60_000 });
  expect(world.inner.refused).toBeLessThan(world.inner.stored * 0.02);
  expect(world.inner.stored / 60).toBeGreaterThan(0.5 * 200);
});

test('one burst of refusals halves the limit once', async () => {
  const world = setUp({ latencyMs: 100, bytesPerSecond: 10_000 * MB, maxInFlight: 0 });
  const before = world.store.limit;
  const burst = Array.from({ length: before }, (_, n) => world.store.put(`k${n}`, new Uint8Array(1)));
  const outcomes = Promise.allSettled(burst);
  await pass(world.clock, 100);
  expect((await outcomes).every(({ status }) => status === 'rejected')).toBe(true);
  expect(world.store.limit).toBe(before / 2);
});

test('finds the new speed when the link changes', async () => {
  const world = setUp({ latencyMs: 100, bytesPerSecond: 10_000 * MB, maxInFlight: 4 });
  await load(world, { callers: 100, bytes: 1_000, forMs: 20_000 });
  expect(world.store.limit).toBeLessThanOrEqual(5);
  world.inner.link = { latencyMs: 100, bytesPerSecond: 10_000 * MB };
  await load(world, { callers: 100, bytes: 1_000, forMs: 180_000 });
  expect(world.store.limit).toBeGreaterThan(24);
});

test('nothing begins before the time the service asked for is over', async () => {
  const world = setUp({ latencyMs: 10, bytesPerSecond: 10_000 * MB, maxInFlight: 0, retryAfterMs: 5_000 });
  const refused = world.store.put('k', new Uint8Array(1)).catch((error: unknown) => error);
  await pass(world.clock, 10);
  expect(await refused).toBeInstanceOf(StoreFailure);
  world.inner.link = { latencyMs: 10, bytesPerSecond: 10_000 * MB };
  const next = world.store.put('l', new Uint8Array(1));
  await pass(world.clock, 10_000);
  expect(await next).toBe('stored');
  expect(world.inner.startsMs).toEqual([0, 5_010]);
});

test('keeps to the rate of requests', async () => {
  const world = setUp({ latencyMs: 1, bytesPerSecond: 10_000 * MB }, { rps: 100 });
  await load(world, { callers: 50, bytes: 10, forMs: 10_000 });
  const seen = world.inner.startsMs.filter((ms) => ms < 10_000).length;
  expect(seen).toBeGreaterThan(950);
  expect(seen).toBeLessThanOrEqual(1_050);
});

test('writes of one key keep their distance, those of others do not wait', async () => {
  const world = setUp({ latencyMs: 200, bytesPerSecond: 10_000 * MB }, { perKey: 1 });
  const writes = Promise.all(['a', 'a', 'b', 'a'].map((key) => world.store.put(key, new Uint8Array(1))));
  await pass(world.clock, 10_000);
  await writes;
  expect(world.inner.startsMs.toSorted((a, b) => a - b)).toEqual([0, 0, 1_000, 2_000]);
});

test('who stops waiting in line leaves it, and the others move up', async () => {
  const world = setUp({ latencyMs: 100, bytesPerSecond: 10_000 * MB }, { max: 2 });
  const stop = new AbortController();
  const first = ['a', 'b'].map((key) => world.store.put(key, new Uint8Array(1)));
  const leaving = world.store.put('c', new Uint8Array(1), { signal: stop.signal });
  const last = world.store.put('d', new Uint8Array(1));
  stop.abort();
  await expect(leaving).rejects.toMatchObject({ code: 'ABORTED' });
  await pass(world.clock, 200);
  expect(await Promise.all([...first, last])).toEqual(['stored', 'stored', 'stored']);
  expect(world.inner.startsMs).toEqual([0, 0, 100]);
});
