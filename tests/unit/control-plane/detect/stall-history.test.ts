import { StallHistory, stallRecordSchema } from '@dumont/control-plane/detect/stall-history.ts';
import type { MachineOpinion } from '@dumont/control-plane/detect/suspicion.ts';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';

const DAY_MS = 86_400_000;
const START_MS = 1_700_000_000_000;

/** A host watched for so many days, with these silences each day. */
function after(days: number, silences: readonly (readonly [silenceMs: number, machine: MachineOpinion])[] = []) {
  const history = new StallHistory(null, START_MS);
  for (let day = 1; day <= days; day += 1) {
    history.watched(DAY_MS, START_MS + day * DAY_MS);
    for (const [silenceMs, machine] of silences) history.ended({ silenceMs, machine }, START_MS + day * DAY_MS);
  }
  return { history, nowMs: START_MS + days * DAY_MS };
}

test('a host that nobody knows is treated as balanced', () => {
  const { history, nowMs } = after(0);
  expect(history.commitDelays(nowMs)).toEqual({ agreedMs: 6_000, loneMs: 12_000 });
  expect(history.extraMarginMs(nowMs)).toBe(0);
});

test('a host without long silences becomes faster, but not faster than fast', () => {
  const month = after(30, [[900, 'silent']]);
  expect(month.history.commitDelays(month.nowMs).agreedMs).toBeLessThan(5_500);
  expect(month.history.commitDelays(month.nowMs).loneMs).toBeLessThan(11_000);
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 400 }), (days) => {
      const { history, nowMs } = after(days);
      const { agreedMs, loneMs } = history.commitDelays(nowMs);
      return agreedMs >= 3_000 && loneMs >= 3_000;
    }),
  );
});

test('a long silence makes a host slower, by what told of the machine', () => {
  const frozen = after(5, [[8_000, 'lost']]);
  expect(frozen.history.commitDelays(frozen.nowMs).agreedMs).toBeGreaterThan(8_000);
  expect(frozen.history.commitDelays(frozen.nowMs).loneMs).toBeLessThanOrEqual(12_000);
  const cutOff = after(5, [[15_000, 'silent']]);
  expect(cutOff.history.commitDelays(cutOff.nowMs).loneMs).toBeGreaterThan(15_000);
  expect(cutOff.history.commitDelays(cutOff.nowMs).agreedMs).toBeLessThanOrEqual(6_000);
  const restarted = after(5, [[8_000, 'answered']]);
  expect(restarted.history.commitDelays(restarted.nowMs).agreedMs).toBeLessThanOrEqual(6_000);
  const heard = after(5, [[20_000, 'heard']]);
  expect(heard.history.commitDelays(heard.nowMs)).toEqual(after(5).history.commitDelays(heard.nowMs));
});

test('a bad day is forgotten after months', () => {
  const { history } = after(1, [[9_000, 'lost']]);
  let nowMs = START_MS + DAY_MS;
  for (let day = 0; day < 120; day += 1) {
    nowMs += DAY_MS;
    history.watched(DAY_MS, nowMs);
  }
  expect(history.commitDelays(nowMs).agreedMs).toBeLessThan(6_000);
});

test('a host that stalls all the time is suspected later, by at most 200 ms', () => {
  const usual = after(
    20,
    Array.from({ length: 50 }, () => [700, 'answered'] as const),
  );
  expect(usual.history.extraMarginMs(usual.nowMs)).toBe(0);
  const bad = after(
    20,
    Array.from({ length: 2_000 }, () => [700, 'answered'] as const),
  );
  expect(bad.history.extraMarginMs(bad.nowMs)).toBe(200);
});

test('a stored history goes on where it was, also under a clock that went back', () => {
  const { history, nowMs } = after(10, [[7_000, 'lost']]);
  const record = stallRecordSchema.parse(JSON.parse(JSON.stringify(history.toRecord(nowMs))));
  const copy = new StallHistory(record, nowMs - DAY_MS);
  expect(copy.commitDelays(nowMs - DAY_MS)).toEqual(history.commitDelays(nowMs));
  expect(copy.toRecord(nowMs)).toEqual(record);
});
