import { Pulse } from '@dumont/agent/link/pulse.ts';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { ManualClock } from '../../../world/manual-clock.ts';

async function beat(clock: ManualClock, ms: number): Promise<void> {
  await clock.advance(ms);
  await nextTurn();
}

test('a change counts as old as the longest gap between two beats could have made it', async () => {
  const clock = new ManualClock();
  const ages: number[] = [];
  let knownMs = 0;
  using _pulse = new Pulse({ clock, intervalMs: 100, onPulse: (ageMs) => ages.push(ageMs(knownMs)) });
  await beat(clock, 100);
  knownMs = 30;
  await beat(clock, 100);
  knownMs = 130;
  await beat(clock, 100);
  knownMs = 0;
  await beat(clock, 100);
  expect(ages).toEqual([0, 130, 230, 0]);
});

test('a beat tells of the time before which everything was heard, and ends with its disposal', async () => {
  const clock = new ManualClock();
  const begun: number[] = [];
  const startMs = clock.monotonicMs();
  {
    using _pulse = new Pulse({ clock, intervalMs: 100, onPulse: (_, beganMs) => begun.push(beganMs - startMs) });
    await beat(clock, 100);
    await beat(clock, 100);
  }
  await beat(clock, 500);
  expect(begun).toEqual([100, 200]);
});
