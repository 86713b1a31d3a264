import fc from 'fast-check';
import { FAILOVER_EVENTS, FAILOVER_STATES, FAILOVER_TABLE, isFailoverOver } from '@dumont/shared/model/failover.ts';
import { INSTANCE_EVENTS, INSTANCE_STATES, INSTANCE_TABLE } from '@dumont/shared/model/instance.ts';
import { PROVISION_EVENTS, PROVISION_STATES, PROVISION_TABLE } from '@dumont/shared/model/provision.ts';
import { RELEASE_EVENTS, RELEASE_STATES, RELEASE_TABLE } from '@dumont/shared/model/release.ts';
import { STANDBY_EVENTS, STANDBY_STATES, STANDBY_TABLE } from '@dumont/shared/model/standby.ts';
import { nextState } from '@dumont/shared/model/transition.ts';
import { describe, expect, test } from 'vitest';

const MACHINES = [
  {
    name: 'failover',
    states: FAILOVER_STATES,
    events: FAILOVER_EVENTS,
    table: FAILOVER_TABLE,
    ends: ['completed', 'averted', 'failed'],
  },
  {
    name: 'provision',
    states: PROVISION_STATES,
    events: PROVISION_EVENTS,
    table: PROVISION_TABLE,
    ends: ['completed', 'failed'],
  },
  {
    name: 'release',
    states: RELEASE_STATES,
    events: RELEASE_EVENTS,
    table: RELEASE_TABLE,
    ends: ['completed', 'failed'],
  },
  {
    name: 'standby',
    states: STANDBY_STATES,
    events: STANDBY_EVENTS,
    table: STANDBY_TABLE,
    ends: ['completed', 'failed'],
  },
  { name: 'instance', states: INSTANCE_STATES, events: INSTANCE_EVENTS, table: INSTANCE_TABLE, ends: ['gone'] },
] as const;

type Table = Readonly<Record<string, Readonly<Record<string, string>>>>;

describe.each(MACHINES)('the table of $name', ({ states, events, ends, ...machine }) => {
  const table = machine.table as Table;

  test('answers every event in every state with a state it knows', () => {
    expect(Object.keys(table).toSorted()).toEqual([...states].toSorted());
    for (const row of Object.values(table)) {
      expect(Object.keys(row).toSorted()).toEqual([...events].toSorted());
      for (const cell of Object.values(row)) expect([...states, 'stay']).toContain(cell);
    }
  });

  test('never leaves an end, and only ends are never left', () => {
    for (const state of states) {
      const leaves = Object.values(table[state] ?? {}).some((cell) => cell !== 'stay' && cell !== state);
      expect([state, leaves]).toEqual([state, !(ends as readonly string[]).includes(state)]);
    }
  });

  test('leads from every state to an end, and from the first state to every other', () => {
    const reachable = (from: string) => {
      const seen = new Set([from]);
      for (const state of seen) {
        for (const cell of Object.values(table[state] ?? {})) if (cell !== 'stay') seen.add(cell);
      }
      return seen;
    };
    for (const state of states) {
      const reached = reachable(state);
      expect([state, ends.some((end) => reached.has(end))]).toEqual([state, true]);
    }
    expect(reachable(states[0])).toEqual(new Set(states));
  });
});

/** Where a walk through the failover's table has been. */
function walk(events: readonly (typeof FAILOVER_EVENTS)[number][]) {
  const path: (typeof FAILOVER_STATES)[number][] = ['searching'];
  for (const event of events) path.push(nextState(FAILOVER_TABLE, path.at(-1) ?? 'searching', event));
  return path;
}
const anyWalk = fc.array(fc.constantFrom(...FAILOVER_EVENTS), { maxLength: 60 });

describe('a failover, whatever happens in whatever order,', () => {
  test('ends once', () => {
    fc.assert(
      fc.property(anyWalk, (events) => {
        const path = walk(events);
        const end = path.findIndex(isFailoverOver);
        if (end !== -1) expect(new Set(path.slice(end)).size).toBe(1);
      }),
    );
  });

  test('is averted only before it was committed, and gives back what it rented first', () => {
    fc.assert(
      fc.property(anyWalk, (events) => {
        const path = walk(events);
        for (const [index, state] of path.entries()) {
          const before = path[index - 1];
          if (state === 'averting' && before !== 'averting') {
            expect(['searching', 'provisioning', 'restoring', 'committing']).toContain(before);
          }
          if (state === 'averted' && before !== 'averted') expect(before).toBe('averting');
          if (state === 'failed' && before !== 'failed') expect(before).toBe('failing');
          if (state === 'releasing' && before !== 'releasing') expect(before).toBe('switching');
        }
      }),
    );
  });

  test('serves users only on a machine that went through restore and commit since the last attempt', () => {
    fc.assert(
      fc.property(anyWalk, (events) => {
        const path = walk(events);
        const switched = path.indexOf('releasing');
        if (switched === -1) return;
        const lastSearch = path.lastIndexOf('searching', switched);
        const attempt = path.slice(lastSearch, switched);
        const order = ['provisioning', 'restoring', 'committing', 'resuming', 'switching'];
        const firstVisits = order.map((state) => attempt.indexOf(state as (typeof FAILOVER_STATES)[number]));
        expect(firstVisits).not.toContain(-1);
        expect(firstVisits.toSorted((a, b) => a - b)).toEqual(firstVisits);
      }),
      {
        examples: [
          [['offersFound', 'machineReady', 'restored', 'committed', 'workloadChecked', 'switched', 'released']],
        ],
      },
    );
  });
});

test('an instance is never used again once its release was asked for', () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...INSTANCE_EVENTS), { maxLength: 40 }), (events) => {
      let state: (typeof INSTANCE_STATES)[number] = 'requested';
      let wasReleased = false;
      for (const event of events) {
        state = nextState(INSTANCE_TABLE, state, event);
        wasReleased ||= state === 'releasing' || state === 'gone';
        if (wasReleased) expect(['releasing', 'gone']).toContain(state);
      }
    }),
  );
});
