import { describe, expect, test } from 'vitest';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { S3Store } from '@dumont/agent/storage/s3-store.ts';
import { openStore } from '@dumont/agent/storage/open-store.ts';
import { fastClock } from '../world/fast-clock.ts';
import { grantFor, openSimulatedS3 } from '../world/simulated-s3.ts';
import { keysOf } from './object-store-contract.ts';

describe('S3 under faults', () => {
  test.each(['slow-down', 'internal', 'reset'] as const)('a put survives %s', async (kind) => {
    await using opened = await openSimulatedS3();
    opened.simulator.faults.add({ kind, method: 'PUT', times: 2 });
    expect(await opened.store.put('k', Buffer.from('x'))).toBe('stored');
    expect(opened.simulator.requests.filter((one) => one.startsWith('PUT'))).toHaveLength(3);
  });

  test.each(['slow-down', 'internal', 'reset', 'truncate'] as const)('a get survives %s', async (kind) => {
    await using opened = await openSimulatedS3();
    const bytes = Buffer.alloc(300_000, 'some bytes');
    await opened.store.put('k', bytes);
    opened.simulator.faults.add({ kind, method: 'GET', times: 2 });
    expect(Buffer.compare(await opened.store.get('k'), bytes)).toBe(0);
    opened.simulator.faults.add({ kind, method: 'GET', times: 1 });
    expect(await opened.store.get('k', { range: { offset: 5, length: 100_000 } })).toHaveLength(100_000);
  });

  test('a put whose answer is lost stores the object once and says so', async () => {
    await using opened = await openSimulatedS3();
    opened.simulator.faults.add({ kind: 'lost-answer', method: 'PUT' });
    expect(await opened.store.put('k', Buffer.from('x'), { ifAbsent: true })).toBe('stored');
    expect(opened.simulator.requests.filter((one) => one.startsWith('PUT'))).toHaveLength(1);
    expect(Buffer.from(await opened.store.get('k')).toString()).toBe('x');
  });

  test('a listing interrupted between pages gives every key once', async () => {
    await using opened = await openSimulatedS3();
    const all = Array.from({ length: 8 }, (_, n) => `k${n}`);
    for (const key of all) await opened.store.put(key, Buffer.from('x'));
    const found: string[] = [];
    for await (const { key } of opened.store.list('')) {
      found.push(key);
      if (found.length === 2) opened.simulator.faults.add({ kind: 'reset', method: 'GET' });
    }
    expect(found).toEqual(all);
  });

  test('gives up on an outage with a retryable error after a bounded number of calls', async () => {
    await using opened = await openSimulatedS3();
    opened.simulator.faults.add({ kind: 'slow-down', times: 1_000 });
    const quick = { clock: { ...systemClock, sleep: () => Promise.resolve() }, random: seededRandom(1) };
    await using store = await openStore(grantFor(opened.simulator), quick);
    await expect(store.get('k')).rejects.toMatchObject({ code: 'UNAVAILABLE', retryable: true });
    expect(opened.simulator.requests).toHaveLength(6);
  });

  test('an abort ends the waiting between two attempts', async () => {
    await using opened = await openSimulatedS3();
    opened.simulator.faults.add({ kind: 'slow-down', times: 1_000 });
    const stop = new AbortController();
    const clock = {
      ...systemClock,
      sleep: (ms: number, signal?: AbortSignal) => {
        stop.abort();
        return systemClock.sleep(ms, signal);
      },
    };
    await using store = await openStore(grantFor(opened.simulator), { clock, random: seededRandom(1) });
    await expect(store.get('k', { signal: stop.signal })).rejects.toMatchObject({ code: 'ABORTED' });
    expect(opened.simulator.requests).toHaveLength(1);
  });

  test.each([
    ['a wrong secret', { secretAccessKey: 'another' }, 'UNAUTHORIZED'],
    ['an unknown key', { accessKeyId: 'nobody' }, 'UNAUTHORIZED'],
    ['a missing bucket', { bucket: 'elsewhere' }, 'NOT_FOUND'],
  ] as const)('%s is refused at once with a clear code', async (_, changes, code) => {
    await using opened = await openSimulatedS3();
    await using store = await openStore(grantFor(opened.simulator, changes), {
      clock: systemClock,
      random: seededRandom(1),
    });
    await expect(store.put('k', Buffer.from('x'))).rejects.toMatchObject({ code, retryable: false });
    expect(opened.simulator.requests).toHaveLength(1);
  });
});

describe('repeated calls', () => {
  test('a put whose answer is lost is not sent again, with and without a condition', async () => {
    await using opened = await openSimulatedS3({ mode: 'r2', clock: fastClock(50) });
    for (const ifAbsent of [true, false]) {
      const key = `k-${ifAbsent}`;
      opened.simulator.faults.add({ kind: 'lost-answer', method: 'PUT' });
      expect(await opened.store.put(key, Buffer.from('bytes'), { ifAbsent })).toBe('stored');
      expect(opened.simulator.requests.filter((one) => one === `PUT team-a/${key}`)).toHaveLength(1);
    }
  });

  test('a conditional put that fails and then meets bytes of another writer says that they exist', async () => {
    await using opened = await openSimulatedS3();
    opened.simulator.faults.add({ kind: 'reset', method: 'PUT' });
    const put = opened.store.put('k', Buffer.from('mine!'), { ifAbsent: true });
    opened.simulator.objects('snapshots').set('team-a/k', Buffer.from('other'));
    expect(await put).toBe('exists');
    expect(Buffer.from(await opened.store.get('k')).toString()).toBe('other');
  });

  test('waits at least as long as the service asks', async () => {
    const clock = fastClock(100);
    await using opened = await openSimulatedS3({ clock });
    opened.simulator.faults.add({ kind: 'slow-down', method: 'PUT', retryAfterSeconds: 20 });
    const begunMs = clock.monotonicMs();
    await opened.store.put('k', Buffer.from('x'));
    expect(clock.monotonicMs() - begunMs).toBeGreaterThanOrEqual(20_000);
  });

  test('no call begins later than five minutes after the first', async () => {
    const clock = fastClock(1_000);
    await using opened = await openSimulatedS3({ clock });
    opened.simulator.faults.add({ kind: 'slow-down', times: 100, retryAfterSeconds: 3_600 });
    const begunMs = clock.monotonicMs();
    await expect(opened.store.get('k')).rejects.toMatchObject({ code: 'UNAVAILABLE', retryable: true });
    expect(clock.monotonicMs() - begunMs).toBeLessThan(330_000);
    expect(opened.simulator.requests.length).toBeGreaterThan(1);
  });

  test.each([
    ['expired-token', /ran out/],
    ['slow-down', undefined],
  ] as const)('%s keeps the code of the service', async (kind, hint) => {
    await using opened = await openSimulatedS3({ clock: fastClock(1_000) });
    opened.simulator.faults.add({ kind, times: 100 });
    const failure: unknown = await opened.store.get('k').catch((error: unknown) => error);
    expect((failure as Error).message).toContain(kind === 'slow-down' ? '503 SlowDown' : '400 ExpiredToken');
    if (hint !== undefined) {
      expect(failure).toMatchObject({ code: 'UNAUTHORIZED', hint: expect.stringMatching(hint) as string });
      expect(opened.simulator.requests).toHaveLength(1);
    }
  });

  test.each([
    ['a wrong secret', { secretAccessKey: 'another' }, /403 SignatureDoesNotMatch/, /secret key, the region/],
    ['an unknown key', { accessKeyId: 'nobody' }, /403 InvalidAccessKeyId/, /does not know this key id/],
    ['a missing bucket', { bucket: 'elsewhere' }, /404 NoSuchBucket/, /Make the bucket first/],
    ['a token nobody gave', { sessionToken: 'x' }, /403 InvalidToken/, /session token/],
  ] as const)('%s is refused with the code of the service and what to do', async (_, changes, message, hint) => {
    await using opened = await openSimulatedS3({}, changes);
    await expect(opened.store.put('k', Buffer.from('x'))).rejects.toMatchObject({
      message: expect.stringMatching(message) as string,
      hint: expect.stringMatching(hint) as string,
    });
  });

  test.each([-3_600_000, 3_600_000])('a clock %d ms away from the service does not matter', async (clockOffsetMs) => {
    await using opened = await openSimulatedS3({ clockOffsetMs });
    await opened.store.put('k', Buffer.from('x'));
    expect(Buffer.from(await opened.store.get('k')).toString()).toBe('x');
    expect(opened.simulator.requests).toHaveLength(3);
  });

  test('temporary credentials carry their token', async () => {
    await using opened = await openSimulatedS3({ sessionToken: 'a token' }, { sessionToken: 'a token' });
    expect(await opened.store.put('k', Buffer.from('x'))).toBe('stored');
  });
});

describe('what a service is trusted with', () => {
  const heads = (requests: readonly string[]) => requests.filter((one) => one.startsWith('HEAD')).length;

  test('a service that overwrites in silence never gets the chance', async () => {
    await using opened = await openSimulatedS3({ mode: 'ignorant' });
    await opened.store.put('k', Buffer.from('first'), { ifAbsent: true });
    expect(await opened.store.put('k', Buffer.from('other'), { ifAbsent: true })).toBe('exists');
    expect(Buffer.from(await opened.store.get('k')).toString()).toBe('first');
    expect(heads(opened.simulator.requests)).toBe(2);
  });

  test('an unknown service is looked at first until it was seen refusing', async () => {
    await using opened = await openSimulatedS3();
    const { faults, requests } = opened.simulator;
    const put = () => opened.store.put('k', Buffer.from('x'), { ifAbsent: true });
    expect(await put()).toBe('stored');
    faults.add({ kind: 'absent', method: 'HEAD' });
    expect(await put()).toBe('exists');
    const looked = heads(requests);
    expect(await put()).toBe('exists');
    expect([looked, heads(requests)]).toEqual([2, 2]);
  });

  test('a service known to refuse is not asked twice', async () => {
    await using opened = await openSimulatedS3({ mode: 's3' });
    await opened.store.put('k', Buffer.from('x'), { ifAbsent: true });
    expect(await opened.store.put('k', Buffer.from('y'), { ifAbsent: true })).toBe('exists');
    expect(heads(opened.simulator.requests)).toBe(0);
  });

  test('bodies go unsigned where that is allowed, and arrive whole', async () => {
    await using opened = await openSimulatedS3();
    await using strict = await openSimulatedS3({ mode: 'b2' });
    const unsigned = { unsignedPayload: true };
    await using store = new S3Store(opened.grant, unsigned);
    await using refused = new S3Store(strict.grant, unsigned);
    const bytes = Buffer.alloc(3_000_000, 'unsigned');
    await store.put('k', bytes);
    expect(Buffer.compare(await store.get('k'), bytes)).toBe(0);
    await expect(refused.put('k', bytes)).rejects.toMatchObject({ code: 'UNAVAILABLE', retryable: false });
    expect(await strict.store.put('k', bytes)).toBe('stored');
  });

  test('a delete frees the bytes also where plain deletes only hide them', async () => {
    await using opened = await openSimulatedS3({ mode: 'b2' });
    await opened.store.put('k', Buffer.from('x'));
    await opened.store.delete('k');
    expect([...opened.simulator.objects('snapshots').keys()]).toEqual([]);
    expect(opened.simulator.hidden('snapshots')).toEqual([]);
  });

  test('a second write of one key waits for the limit of the service', async () => {
    await using opened = await openSimulatedS3({ mode: 'r2', clock: fastClock(20) });
    for (const text of ['one', 'two', 'three']) await opened.store.put('k', Buffer.from(text));
    expect(opened.simulator.requests.filter((one) => one.startsWith('PUT'))).toHaveLength(3);
    expect(Buffer.from(await opened.store.get('k')).toString()).toBe('three');
  });
});

test('a late listing gives what it has, and the rest when it comes', async () => {
  await using opened = await openSimulatedS3({ listingLag: 1 });
  await opened.store.put('k', Buffer.from('x'));
  expect(await keysOf(opened.store, '')).toEqual([]);
  expect(await keysOf(opened.store, '')).toEqual(['k']);
});

test('many simultaneous calls fit a service that takes few at a time', async () => {
  await using opened = await openSimulatedS3({ maxInFlight: 4, latencyMs: 5, clock: fastClock(20) });
  const keys = Array.from({ length: 120 }, (_, n) => `k${n}`);
  await Promise.all(keys.map((key) => opened.store.put(key, Buffer.from(key))));
  expect(opened.simulator.objects('snapshots').size).toBe(120);
  const calls = opened.simulator.requests.length;
  expect(calls).toBeLessThan(200);
});

test('says how fast the link was', async () => {
  await using opened = await openSimulatedS3({ linkBytesPerSecond: 4_000_000 });
  expect(opened.store.throughput()).toEqual({ uploadBytesPerSecond: null, downloadBytesPerSecond: null });
  await opened.store.put('k', Buffer.alloc(2_400_000));
  await opened.store.get('k');
  const { uploadBytesPerSecond: up, downloadBytesPerSecond: down } = opened.store.throughput();
  expect([up, down].every((rate) => rate !== null && rate > 2_000_000 && rate < 4_400_000)).toBe(true);
});
