import { verdictsOf, WATCH_EVENTS, WATCH_TABLE, type WatchState } from '@dumont/control-plane/detect/watch-state.ts';
import { nextState } from '@dumont/shared/model/transition.ts';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';

test('a commit is final whatever happens afterwards', () => {
  for (const event of WATCH_EVENTS) expect(nextState(WATCH_TABLE, 'committed', event)).toBe('committed');
});

test('any course of events announces verdicts in rising order, and nothing is committed before it is confirmed', () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...WATCH_EVENTS), { maxLength: 60 }), (events) => {
      let state: WatchState = 'grace';
      const heard: string[] = [];
      for (const event of events) {
        const next: WatchState = nextState(WATCH_TABLE, state, event);
        heard.push(...verdictsOf(state, next));
        state = next;
      }
      const course = heard
        .map((kind) => ({ suspect: 's', confirm: 'c', commit: 'C', alive: 'a' })[kind] ?? '?')
        .join('');
      expect(course).toMatch(/^(?:sc?a)*(?:sc?C?)?$/);
      expect(course).not.toContain('sC');
    }),
  );
});

test('leaving the grace is no verdict', () => {
  expect(verdictsOf('grace', 'alive')).toEqual([]);
  expect(verdictsOf('grace', 'committed')).toEqual(['suspect', 'confirm', 'commit']);
  expect(verdictsOf('confirmed', 'alive')).toEqual(['alive']);
});
