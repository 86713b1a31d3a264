import { expect, test } from 'vitest';
import { simulateSchedules } from '../../../sim/schedules/simulate-schedules.ts';

/** A few seconds; `npm run sim -- --schedules 10000` is the whole. */
const SCHEDULES = 8;
const TIMEOUT_MS = 120_000;

test(
  'random faults never give a workspace two writers, lose what was confirmed, or leave a machine or an operation behind',
  async () => {
    const report = await simulateSchedules({ seed: 7, schedules: SCHEDULES });
    expect(report.problems).toEqual([]);
    expect(report).toMatchObject({ schedules: SCHEDULES, doubleWriterMs: 0 });
    // Something happened, or nothing was shown.
    expect(report.failovers).toBeGreaterThan(0);
    expect(report.takeovers).toBeGreaterThan(0);
  },
  TIMEOUT_MS,
);
