import { expect, test } from 'vitest';
import { FetchLimit } from '@dumont/agent/restore/fetch-limit.ts';
import { runJobs } from '@dumont/agent/restore/job-queue.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { ManualClock } from '../../../world/manual-clock.ts';

const MIB = 1_048_576;

/** A link of so many MiB/s on which each request gets at most its share; runs for some time. */
async function drive(
  clock: ManualClock,
  limit: FetchLimit,
  link: { mibPerS: number; perRequest: number; forMs: number },
) {
  for (let passedMs = 0; passedMs < link.forMs;) {
    const mibPerS = Math.min(link.mibPerS, limit.current * link.perRequest);
    const stepMs = (limit.current * 4_000) / mibPerS;
    await clock.advance(stepMs);
    passedMs += stepMs;
    for (let one = limit.current; one > 0; one -= 1) limit.onFetched(4 * MIB);
  }
}

test('more requests are made while they bring more, and no more once the link is full', async () => {
  const clock = new ManualClock();
  const limit = new FetchLimit(clock);
  expect(limit.current).toBe(4);
  await drive(clock, limit, { mibPerS: 10_000, perRequest: 20, forMs: 60_000 });
  expect(limit.current).toBe(64);
  const narrow = new FetchLimit(clock);
  await drive(clock, narrow, { mibPerS: 200, perRequest: 20, forMs: 60_000 });
  expect(narrow.current).toBeGreaterThanOrEqual(10);
  expect(narrow.current).toBeLessThan(20);
});

test('when a link gets slower there are fewer requests, and never fewer than four', async () => {
  const clock = new ManualClock();
  const limit = new FetchLimit(clock);
  await drive(clock, limit, { mibPerS: 2_000, perRequest: 40, forMs: 30_000 });
  const before = limit.current;
  await drive(clock, limit, { mibPerS: 300, perRequest: 40, forMs: 10_000 });
  expect(limit.current).toBeLessThan(before);
  expect(limit.current).toBeGreaterThanOrEqual(4);
});

test('what is fetched and not used yet stays within the memory, and the first failure ends it with nothing in flight', async () => {
  const jobs = Array.from({ length: 60 }, (_, n) => ({
    ranges: [{ source: 'p', offset: n, length: 8 * MIB }],
    chunks: [],
    bytes: 8 * MIB,
  }));
  let [held, most, begun] = [0, 0, 0];
  const steps = (failAt: number) => ({
    clock: systemClock,
    fetch: async ({ offset }: { offset: number }) => {
      begun += 1;
      held += 1;
      most = Math.max(most, held);
      await Promise.resolve();
      if (offset === failAt) throw new Error('broken');
      return new Uint8Array(1);
    },
    use: async () => {
      await new Promise<void>((resolve) => setImmediate(resolve));
      held -= 1;
    },
  });
  await runJobs(jobs, steps(-1));
  expect(begun).toBe(60);
  expect(most * 8).toBeLessThanOrEqual(64);
  [held, begun] = [0, 0];
  await expect(runJobs(jobs, steps(20))).rejects.toThrow('broken');
  expect(begun).toBeLessThan(40);
  expect(held).toBe(1);
});
