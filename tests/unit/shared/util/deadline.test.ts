import { Deadline } from '@dumont/shared/util/deadline.ts';
import { expect, test } from 'vitest';
import { ManualClock } from '../../../world/manual-clock.ts';

test('a deadline aborts with a TimeoutError when its time is up, not before', async () => {
  const clock = new ManualClock();
  using deadline = new Deadline(clock, 1_000);
  await clock.advance(999);
  expect(deadline.signal.aborted).toBe(false);
  await clock.advance(1);
  expect(deadline.expired).toBe(true);
  expect(deadline.signal.reason).toMatchObject({ name: 'TimeoutError' });
});

test('a deadline aborts with its parent and says that it was not the time', () => {
  const parent = new AbortController();
  using deadline = new Deadline(new ManualClock(), 1_000, parent.signal);
  parent.abort(new Error('stopped'));
  expect(deadline.signal.reason).toMatchObject({ message: 'stopped' });
  expect(deadline.expired).toBe(false);
});

test('an extended deadline counts its time anew, a disposed one not at all', async () => {
  const clock = new ManualClock();
  const disposed = new Deadline(clock, 1_000);
  disposed[Symbol.dispose]();
  using extended = new Deadline(clock, 1_000);
  await clock.advance(900);
  extended.extend();
  await clock.advance(900);
  expect(extended.expired).toBe(false);
  await clock.advance(100);
  expect([extended.expired, disposed.expired]).toEqual([true, false]);
});
