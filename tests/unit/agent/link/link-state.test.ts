import { LINK_STATES, LINK_TABLE, type LinkEvent } from '@dumont/agent/link/link-state.ts';
import { nextState } from '@dumont/shared/model/transition.ts';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';

const EVENTS = ['start', 'opened', 'welcomed', 'lost', 'retry', 'ended'] as const satisfies readonly LinkEvent[];

test('a closed link never opens again, and only a greeted one comes online, whatever happens', () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...EVENTS)), (events) => {
      let state: (typeof LINK_STATES)[number] = 'idle';
      for (const event of events) {
        const before = state;
        state = nextState(LINK_TABLE, state, event);
        if (before === 'closed') expect(state).toBe('closed');
        if (state === 'online' && before !== 'online') expect(before).toBe('greeting');
        if (event === 'ended') expect(state).toBe('closed');
      }
    }),
  );
});

test('every state is reachable by the ordinary course of things', () => {
  const course: readonly LinkEvent[] = ['start', 'opened', 'welcomed', 'lost', 'retry', 'ended'];
  const seen = new Set<string>(['idle']);
  let state: (typeof LINK_STATES)[number] = 'idle';
  for (const event of course) {
    state = nextState(LINK_TABLE, state, event);
    seen.add(state);
  }
  expect(seen).toEqual(new Set(LINK_STATES));
});
