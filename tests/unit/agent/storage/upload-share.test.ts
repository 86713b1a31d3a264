import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { UploadShare } from '@dumont/agent/storage/upload-share.ts';
import { ManualClock } from '../../../world/manual-clock.ts';

test('what goes first does not wait for what the rest is gathering', async () => {
  const clock = new ManualClock();
  const share = new UploadShare({ bytesPerSecond: 1_000, clock });
  let [rest, first] = [false, false];
  void share.rest(10_000).then(() => (rest = true));
  await clock.advance(2_000);
  void share.first(500).then(() => (first = true));
  await clock.advance(500);
  expect({ first, rest }).toEqual({ first: true, rest: false });
});

test('while those that go first use all of it, the rest gets nothing, and all of it afterwards', async () => {
  const clock = new ManualClock();
  const share = new UploadShare({ bytesPerSecond: 1_000, clock });
  await share.first(250);
  let isThere = false;
  for (let count = 0; count < 10; count += 1) void share.first(100);
  void share.rest(1_000).then(() => (isThere = true));
  await clock.advance(1_900);
  expect(isThere).toBe(false);
  await clock.advance(200);
  expect(isThere).toBe(true);
});

test('who stops waiting gives back what it gathered', async () => {
  const clock = new ManualClock();
  const share = new UploadShare({ bytesPerSecond: 1_000, clock });
  const stop = new AbortController();
  const waiting = share.rest(1_000, stop.signal);
  stop.abort(new Error('enough'));
  await expect(waiting).rejects.toThrow('enough');
  await share.first(250);
});

test('together they keep below the cap, whatever they take', async () => {
  const takes = fc.array(fc.record({ isFirst: fc.boolean(), bytes: fc.integer({ min: 1, max: 2_000 }) }), {
    minLength: 1,
    maxLength: 20,
  });
  await fc.assert(
    fc.asyncProperty(takes, async (wanted) => {
      const clock = new ManualClock();
      const share = new UploadShare({ bytesPerSecond: 1_000, clock });
      let passed = 0;
      for (const { isFirst, bytes } of wanted) {
        const take = isFirst ? share.first(bytes) : share.rest(bytes);
        void take.then(() => (passed += bytes));
      }
      const total = wanted.reduce((sum, { bytes }) => sum + bytes, 0);
      for (let ms = 0; ms < total + 1_000; ms += 250) {
        await clock.advance(250);
        expect(passed).toBeLessThanOrEqual(250 + ms + 250);
      }
      expect(passed).toBe(total);
    }),
    { numRuns: 30 },
  );
});
