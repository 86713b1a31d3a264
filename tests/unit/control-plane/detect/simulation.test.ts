import { expect, test } from 'vitest';
import { evaluate } from '../../../sim/evaluate.ts';

/** Seconds of computing, on a computer that may be busy. */
const BUSY = { timeout: 120_000 } as const;
/** A short run of `npm run sim`: what takes thousands of host-days to be seen is said in docs/DETECTION.md. */
const SHORT = { seed: 7, days: 30, deaths: 60 } as const;

test(
  'deaths in the stall model are suspected within 0.8 s and confirmed within 1.0 s, at once with hard evidence',
  BUSY,
  async () => {
    const { rows } = await evaluate({
      ...SHORT,
      days: 1,
      deaths: 200,
      profiles: ['good'],
      modes: ['fast', 'balanced'],
    });
    expect(rows).toHaveLength(4);
    for (const { suspectMs, confirmMs, hardMs, commitMs, mode } of rows) {
      expect(suspectMs.p99).toBeLessThan(800);
      expect(confirmMs.p50).toBeLessThan(600);
      expect(confirmMs.p99).toBeLessThan(1_000);
      expect(hardMs.p50).toBeLessThan(150);
      expect(commitMs.p50).toBeGreaterThan(mode === 'fast' ? 2_500 : 5_500);
    }
  },
);

test('healthy hosts are wronged at a bounded rate', BUSY, async () => {
  const { rows } = await evaluate({
    ...SHORT,
    deaths: 1,
    profiles: ['good', 'noisy'],
    modes: ['balanced', 'adaptive'],
  });
  for (const { profile, falseCommitsPerMonth, mistakesPerMonth, queryAccuracy } of rows) {
    // A month tells less than ten thousand days: the bound is above the rate that is promised.
    expect(falseCommitsPerMonth).toBeLessThanOrEqual(profile === 'good' ? 2 : 5);
    expect(mistakesPerMonth).toBeLessThan(profile === 'good' ? 2_400 : 12_000);
    expect(queryAccuracy).toBeGreaterThan(0.998);
  }
});

test('a control plane that is stopped for 2 s or started anew declares nobody dead, in any mode', BUSY, async () => {
  const modes = ['fast', 'balanced', 'cautious', 'adaptive'] as const;
  const { controlPlane } = await evaluate({ ...SHORT, days: 1, deaths: 1, profiles: [], modes });
  expect(controlPlane).toHaveLength(4);
  for (const { pauses, restarts, suspects, confirms, commits } of controlPlane) {
    expect({ pauses, restarts, suspects, confirms, commits }).toEqual({
      pauses: 30,
      restarts: 30,
      suspects: 0,
      confirms: 0,
      commits: 0,
    });
  }
});

test('the same seed gives the same figures', BUSY, async () => {
  const options = { ...SHORT, days: 3, deaths: 20, profiles: ['noisy'], modes: ['adaptive'] } as const;
  const twice = await Promise.all([evaluate(options), evaluate(options)]);
  expect(twice[0]).toEqual(twice[1]);
  expect(await evaluate({ ...options, seed: 8 })).not.toEqual(twice[0]);
});
