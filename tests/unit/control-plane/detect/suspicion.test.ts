import { CALM, MAX_AWARENESS, nextAwareness, type SelfCheck } from '@dumont/control-plane/detect/awareness.ts';
import { ListeningTime } from '@dumont/control-plane/detect/listening-time.ts';
import { endurance, patience, STANDARD_KNOBS, TOLERANT_KNOBS } from '@dumont/control-plane/detect/suspicion.ts';
import { expect, test } from 'vitest';

const WELL: SelfCheck = { nowMs: 0, lateCount: 0, watchedCount: 100 };

test('on-time beats are probed after 350 ms of silence and suspected after 600', () => {
  expect(patience(200, 0, STANDARD_KNOBS)).toEqual({ probeAfterMs: 350, suspectAfterMs: 600 });
});

test('a late last beat shortens the patience, but never below the floor', () => {
  expect(patience(150, 0, STANDARD_KNOBS).suspectAfterMs).toBe(550);
  expect(patience(-2_000, 0, STANDARD_KNOBS)).toEqual({ probeAfterMs: 300, suspectAfterMs: 500 });
});

test('doubt in ourselves multiplies the patience', () => {
  expect(patience(200, 1, STANDARD_KNOBS).suspectAfterMs).toBe(1_200);
  expect(patience(200, MAX_AWARENESS, STANDARD_KNOBS).suspectAfterMs).toBe(2_400);
  expect(patience(200, 0, TOLERANT_KNOBS).suspectAfterMs).toBe(1_400);
});

test('a silent machine is confirmed at once and given up after the delay, which a second vantage point may shorten', () => {
  const delays = { agreedMs: 6_000, loneMs: 12_000 };
  expect(endurance(delays, 0, 'lost')).toEqual({ confirmAfterMs: 0, commitAfterMs: 6_000 });
  expect(endurance(delays, 0, 'silent')).toEqual({ confirmAfterMs: 0, commitAfterMs: 12_000 });
});

test('a machine that answers, or of which nobody knows, is given twice the delay', () => {
  const delays = { agreedMs: 3_000, loneMs: 3_000 };
  expect(endurance(delays, 0, 'answered')).toEqual({ confirmAfterMs: 3_000, commitAfterMs: 6_000 });
  expect(endurance(delays, 1, 'unknown')).toEqual({ confirmAfterMs: 6_000, commitAfterMs: 12_000 });
});

test('a machine that its standby hears is given half a minute', () => {
  const delays = { agreedMs: 6_000, loneMs: 12_000 };
  expect(endurance(delays, 0, 'heard')).toEqual({ confirmAfterMs: 12_000, commitAfterMs: 30_000 });
  expect(endurance(delays, 2, 'heard')).toEqual({ confirmAfterMs: 36_000, commitAfterMs: 90_000 });
});

test('loop lag, deafness and a fleet late together each raise the doubt', () => {
  expect(nextAwareness(CALM, WELL).level).toBe(0);
  expect(nextAwareness(CALM, { ...WELL, lateCount: 19 }).level).toBe(0);
  expect(nextAwareness(CALM, { ...WELL, lateCount: 20 }).level).toBe(1);
});

test('two late machines of a tiny fleet are a coincidence, three are not', () => {
  expect(nextAwareness(CALM, { ...WELL, lateCount: 2, watchedCount: 2 }).level).toBe(0);
  expect(nextAwareness(CALM, { ...WELL, lateCount: 3, watchedCount: 3 }).level).toBe(1);
});

test('the doubt rises every 250 ms up to its bound and falls by one a second', () => {
  const ill = { ...WELL, lateCount: 50 };
  let awareness = nextAwareness(CALM, { ...ill, nowMs: 0 });
  awareness = nextAwareness(awareness, { ...ill, nowMs: 249 });
  expect(awareness.level).toBe(1);
  for (const nowMs of [250, 500, 750, 1_000]) awareness = nextAwareness(awareness, { ...ill, nowMs });
  expect(awareness.level).toBe(MAX_AWARENESS);
  awareness = nextAwareness(awareness, { ...WELL, nowMs: 1_999 });
  expect(awareness.level).toBe(MAX_AWARENESS);
  for (const nowMs of [2_000, 3_000, 4_000]) awareness = nextAwareness(awareness, { ...WELL, nowMs });
  expect(awareness.level).toBe(0);
});

test('listening time stands still while the process was stopped', () => {
  const time = new ListeningTime({ nowMs: 0, tickEveryMs: 25 });
  expect(time.tick(25)).toBe(false);
  expect(time.at(25)).toBe(25);
  expect(time.tick(150)).toBe(false);
  expect(time.at(150)).toBe(150);
  // 2,000 ms later, of which 25 were expected: 1,975 ms of deafness.
  expect(time.tick(2_150)).toBe(true);
  expect(time.at(2_150)).toBe(175);
});
