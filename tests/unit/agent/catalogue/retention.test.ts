import fc from 'fast-check';
import { expect, test } from 'vitest';
import { splitByPolicy, type RetentionPolicy } from '@dumont/agent/catalogue/retention.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

const count = fc.option(fc.integer({ min: 0, max: 5 }), { nil: undefined });
const policies: fc.Arbitrary<RetentionPolicy> = fc.record({
  keepLast: count,
  keepHourly: count,
  keepDaily: count,
  keepWeekly: count,
  keepMonthly: count,
  keepWithinMs: fc.option(fc.integer({ min: 0, max: 40 * DAY_MS }), { nil: undefined }),
});
const histories = fc
  .array(fc.record({ modifiedMs: fc.integer({ min: 0, max: 400 * DAY_MS }), isDoubtful: fc.boolean() }), {
    maxLength: 30,
  })
  .map((all) => all.map((one, index) => ({ ...one, manifestKey: `m${String(index).padStart(3, '0')}` })));

const keysOf = (some: readonly { readonly manifestKey: string }[]) => some.map((one) => one.manifestKey);
const at = (...times: readonly number[]) =>
  times.map((modifiedMs, index) => ({ manifestKey: `m${index}`, modifiedMs, isDoubtful: false }));

test('every snapshot is kept or forgotten, the latest always kept, and without a rule nothing is forgotten', () => {
  fc.assert(
    fc.property(histories, policies, (history, policy) => {
      const { kept, forgotten } = splitByPolicy(history, policy);
      expect([...keysOf(kept), ...keysOf(forgotten)].toSorted()).toEqual(keysOf(history));
      expect(kept.at(-1)).toBe(history.at(-1));
      if (Object.values(policy).every((rule) => rule === undefined)) expect(forgotten).toEqual([]);
      if (policy.keepLast !== undefined)
        expect(kept.length).toBeGreaterThanOrEqual(Math.min(policy.keepLast, history.length));
    }),
  );
});

test('a further rule, and a doubtful snapshot more, never make another one forgotten', () => {
  fc.assert(
    fc.property(histories, policies, policies, (history, policy, more) => {
      const defined = Object.fromEntries(Object.entries(policy).filter(([, rule]) => rule !== undefined));
      fc.pre(Object.keys(defined).length > 0);
      const kept = keysOf(splitByPolicy(history, policy).kept);
      expect(keysOf(splitByPolicy(history, { ...more, ...defined }).kept)).toEqual(expect.arrayContaining(kept));
      const certain = history.filter((one) => !one.isDoubtful);
      expect(kept).toEqual(expect.arrayContaining(keysOf(splitByPolicy(certain, policy).kept)));
    }),
  );
});

test('pruning twice by the same policy forgets nothing more', () => {
  fc.assert(
    fc.property(histories, policies, (history, policy) => {
      const { kept } = splitByPolicy(history, policy);
      expect(splitByPolicy(kept, policy).forgotten).toEqual([]);
    }),
  );
});

test('of each period the last is kept, for as many periods as have one', () => {
  const day = 100 * DAY_MS;
  const history = at(day, day + 2 * HOUR_MS, day + 2 * HOUR_MS + 5, day + 3 * DAY_MS, day + 3 * DAY_MS + HOUR_MS);
  expect(keysOf(splitByPolicy(history, { keepDaily: 2 }).kept)).toEqual(['m2', 'm4']);
  expect(keysOf(splitByPolicy(history, { keepHourly: 3 }).kept)).toEqual(['m2', 'm3', 'm4']);
  expect(keysOf(splitByPolicy(history, { keepWithinMs: HOUR_MS }).kept)).toEqual(['m3', 'm4']);
  expect(keysOf(splitByPolicy(history, { keepMonthly: 9 }).kept)).toEqual(['m4']);
});

test('weeks begin on Monday, UTC', () => {
  const sunday = Date.parse('2026-11-22T23:59:59Z');
  const monday = Date.parse('2026-11-23T00:00:00Z');
  expect(keysOf(splitByPolicy(at(sunday, monday), { keepWeekly: 2 }).kept)).toEqual(['m0', 'm1']);
  expect(keysOf(splitByPolicy(at(sunday - 6 * DAY_MS, sunday), { keepWeekly: 2 }).kept)).toEqual(['m1']);
});
