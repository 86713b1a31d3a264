import type { TransitionTable } from '@dumont/shared/model/transition.ts';
import type { Verdict } from './verdict.ts';

/**
 * What the detector thinks of one instance.
 * - `grace`: just watched (or the control plane just started): silence proves nothing yet
 * - `alive`: heard in time
 * - `suspect`: silent beyond its deadline
 * - `confirmed`: and nobody else vouches for it
 * - `committed`: given up for good; no longer judged
 */
export type WatchState = 'grace' | 'alive' | 'suspect' | 'confirmed' | 'committed';

/**
 * - `settled`: the grace is over (enough beats, or time)
 * - `heard`: a sign of life
 * - `overdue`: silence beyond the deadline
 * - `unrefuted`: the second opinion does not vouch for it, or the mode's delay passed without one that does
 * - `outlasted`: silence beyond the last delay
 * - `hard`: evidence that needs no waiting
 */
export const WATCH_EVENTS = ['settled', 'heard', 'overdue', 'unrefuted', 'outlasted', 'hard'] as const;
export type WatchEvent = (typeof WATCH_EVENTS)[number];

export const WATCH_TABLE: TransitionTable<WatchState, WatchEvent> = {
  grace: {
    settled: 'alive',
    heard: 'stay',
    overdue: 'stay',
    unrefuted: 'stay',
    outlasted: 'stay',
    hard: 'committed',
  },
  alive: {
    settled: 'stay',
    heard: 'stay',
    overdue: 'suspect',
    unrefuted: 'stay',
    outlasted: 'stay',
    hard: 'committed',
  },
  suspect: {
    settled: 'stay',
    heard: 'alive',
    overdue: 'stay',
    unrefuted: 'confirmed',
    outlasted: 'stay',
    hard: 'committed',
  },
  confirmed: {
    settled: 'stay',
    heard: 'alive',
    overdue: 'stay',
    unrefuted: 'stay',
    outlasted: 'committed',
    hard: 'committed',
  },
  committed: {
    settled: 'stay',
    heard: 'stay',
    overdue: 'stay',
    unrefuted: 'stay',
    outlasted: 'stay',
    hard: 'stay',
  },
};

const GRADE: Record<WatchState, number> = { grace: 0, alive: 0, suspect: 1, confirmed: 2, committed: 3 };
const RISING = ['suspect', 'confirm', 'commit'] as const;

/**
 * The verdicts a move announces, in order: every grade passed on the way up, so that listeners never see a commit
 * without its confirm; one `alive` on the way down; none between grace and alive.
 */
export function verdictsOf(from: WatchState, to: WatchState): readonly Verdict['kind'][] {
  if (GRADE[to] > GRADE[from]) return RISING.slice(GRADE[from], GRADE[to]);
  return GRADE[to] < GRADE[from] ? ['alive'] : [];
}
