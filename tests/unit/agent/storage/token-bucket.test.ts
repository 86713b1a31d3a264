import fc from 'fast-check';
import { expect, test } from 'vitest';
import { TokenBucket } from '@dumont/agent/storage/token-bucket.ts';
import { ManualClock } from '../../../world/manual-clock.ts';

test('the burst passes at once and the rest at the rate, in the order it came', async () => {
  const clock = new ManualClock();
  const bucket = new TokenBucket({ ratePerSecond: 10, burst: 5, clock });
  const passed: number[] = [];
  for (let n = 0; n < 10; n += 1) void bucket.take(1).then(() => passed.push(n));
  await clock.advance(0);
  expect(passed).toEqual([0, 1, 2, 3, 4]);
  await clock.advance(250);
  expect(passed).toEqual([0, 1, 2, 3, 4, 5, 6]);
  await clock.advance(250);
  expect(passed).toHaveLength(10);
});

test('one taker may want more than the burst and waits for it', async () => {
  const clock = new ManualClock();
  const bucket = new TokenBucket({ ratePerSecond: 1_000, burst: 100, clock });
  let isThere = false;
  void bucket.take(2_100).then(() => (isThere = true));
  await clock.advance(1_999);
  expect(isThere).toBe(false);
  await clock.advance(1);
  expect(isThere).toBe(true);
});

test('who stops waiting gives back what it did not use', async () => {
  const clock = new ManualClock();
  const bucket = new TokenBucket({ ratePerSecond: 1, burst: 1, clock });
  const stop = new AbortController();
  const waiting = bucket.take(1_000, stop.signal);
  stop.abort(new Error('enough'));
  await expect(waiting).rejects.toThrow('enough');
  let isThere = false;
  void bucket.take(1).then(() => (isThere = true));
  await clock.advance(0);
  expect(isThere).toBe(true);
});

test('no interval ever sees more than its share and one burst', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ amount: fc.integer({ min: 1, max: 500 }), pauseMs: fc.integer({ min: 0, max: 300 }) }), {
        minLength: 1,
        maxLength: 30,
      }),
      async (takes) => {
        const clock = new ManualClock();
        const bucket = new TokenBucket({ ratePerSecond: 1_000, burst: 200, clock });
        const passed: { readonly atMs: number; readonly amount: number }[] = [];
        for (const { amount, pauseMs } of takes) {
          void bucket.take(amount).then(() => passed.push({ atMs: clock.monotonicMs(), amount }));
          await clock.advance(pauseMs);
        }
        await clock.advance(60_000);
        expect(passed).toHaveLength(takes.length);
        for (const [from, { atMs: sinceMs }] of passed.entries()) {
          let sum = 0;
          for (const { atMs, amount } of passed.slice(from + 1)) {
            sum += amount;
            expect(sum).toBeLessThanOrEqual(atMs - sinceMs + 200 + 0.001);
          }
        }
      },
    ),
    { numRuns: 50 },
  );
});
