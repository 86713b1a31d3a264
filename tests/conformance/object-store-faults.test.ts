import { describe, expect, test } from 'vitest';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
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

  test('a put whose answer is lost stores the object once and reports that it exists', async () => {
    await using opened = await openSimulatedS3();
    opened.simulator.faults.add({ kind: 'lost-answer', method: 'PUT' });
    expect(await opened.store.put('k', Buffer.from('x'), { ifAbsent: true })).toBe('exists');
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
