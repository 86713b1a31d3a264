import { RequestPace } from '@dumont/control-plane/providers/http/request-pace.ts';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ManualClock } from '../../../../world/manual-clock.ts';

const { signal } = new AbortController();

/** Makes `count` calls at once, each answered after its latency; when the provider saw each, and when it was answered. */
async function burst(rule: { readonly calls: number; readonly perMs: number }, latenciesMs: readonly number[]) {
  const clock = new ManualClock();
  const pace = new RequestPace(rule, clock);
  const seen: number[] = [];
  const calls = latenciesMs.map((latencyMs, index) =>
    pace.run(async () => {
      if (latencyMs > 0) await clock.sleep(latencyMs / 2);
      seen[index] = clock.monotonicMs();
      if (latencyMs > 0) await clock.sleep(latencyMs / 2);
    }, signal),
  );
  const done = Promise.all(calls);
  await clock.advance(0);
  for (let step = 0; step < 400 && seen.filter((at) => at !== undefined).length < latenciesMs.length; step += 1) {
    await clock.advance(rule.perMs / 4);
  }
  await clock.advance(Math.max(...latenciesMs));
  await done;
  return seen;
}

test('no window as the provider sees it holds more calls than the rule allows, whatever the way takes', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({ calls: fc.integer({ min: 1, max: 4 }), perMs: fc.integer({ min: 40, max: 400 }) }),
      fc.array(fc.integer({ min: 0, max: 600 }), { minLength: 1, maxLength: 12 }),
      async (rule, latenciesMs) => {
        const seen = (await burst(rule, latenciesMs)).toSorted((a, b) => a - b);
        for (const [index, at] of seen.entries()) {
          const later = seen[index + rule.calls];
          if (later !== undefined) expect(later - at).toBeGreaterThanOrEqual(rule.perMs);
        }
      },
    ),
    { numRuns: 60 },
  );
});

test('calls are made in the order in which they were asked for, and the first at once', async () => {
  const seen = await burst({ calls: 1, perMs: 100 }, [0, 0, 0]);
  expect(seen).toEqual([0, 100, 200]);
});

test('a call that is given up in the queue leaves its place to the next', async () => {
  const clock = new ManualClock();
  const pace = new RequestPace({ calls: 1, perMs: 1_000 }, clock);
  const order: string[] = [];
  const call = (name: string, its = signal) => pace.run(() => Promise.resolve(order.push(name)), its);
  const impatient = new AbortController();
  await call('first');
  const given = call('given up', impatient.signal);
  const last = call('last');
  impatient.abort(new Error('enough'));
  await expect(given).rejects.toThrow('enough');
  await clock.advance(1_000);
  await last;
  expect(order).toEqual(['first', 'last']);
});

test('after a hold nothing is called until it is over', async () => {
  const clock = new ManualClock();
  const pace = new RequestPace({ calls: 10, perMs: 1_000 }, clock);
  pace.holdOff(5_000);
  const called = pace.run(() => Promise.resolve(clock.monotonicMs()), signal);
  await clock.advance(4_999);
  await clock.advance(1);
  expect(await called).toBe(5_000);
});

test('a queue that grows without end is refused', async () => {
  const clock = new ManualClock();
  const pace = new RequestPace({ calls: 1, perMs: 1_000 }, clock);
  const stop = new AbortController();
  const calls = Array.from({ length: 1_001 }, () => pace.run(() => new Promise<never>(() => {}), stop.signal));
  await expect(pace.run(() => Promise.resolve(), stop.signal)).rejects.toMatchObject({
    code: 'LIMIT',
    retryable: true,
  });
  stop.abort(new Error('over'));
  await Promise.allSettled(calls.slice(1));
});
