import { expect, test } from 'vitest';
import { killTrials } from '../world/sync-kill.ts';

/** Two seconds each; `npm run chaos:sync -- --trials 200` is the whole. */
const TRIALS = 12;
const TIMEOUT_MS = 600_000;

test(
  'a primary killed at any moment of a write load loses no more than its last heartbeat said',
  async () => {
    let trials = 0;
    for await (const outcome of killTrials(TRIALS, 1)) {
      expect(outcome.violations, JSON.stringify(outcome)).toEqual([]);
      trials += 1;
    }
    expect(trials).toBe(TRIALS);
  },
  TIMEOUT_MS,
);
