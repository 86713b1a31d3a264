import type { TransitionTable } from './transition.ts';

/**
 * The states of a failover operation, in the order of a smooth run. Everything up to and including `committing` can be
 * undone (it costs cents); `committing` waits for the verdict and writes epoch + 1, and from there on it only goes
 * forward.
 */
export const FAILOVER_STATES = [
  'searching', // rank offers
  'provisioning', // rent by strategy until one replacement's agent said hello
  'restoring', // put the head snapshot on the replacement
  'committing', // wait for the detector's commit, then fence the old epoch
  'resuming', // start the workload on the replacement and check it
  'switching', // point users at the replacement
  'releasing', // destroy the old machine and the race's losers
  'completed',
  'averting', // the old primary serves on: give back what was rented
  'averted',
  'failing', // out of attempts: give back what was rented
  'failed',
] as const;
export type FailoverState = (typeof FAILOVER_STATES)[number];

export const FAILOVER_EVENTS = [
  'offersFound',
  'machineReady',
  'restored',
  'committed',
  'headMoved', // fenced, but the primary had published a newer snapshot than the one restored
  'workloadChecked',
  'switched',
  'released',
  'attemptFailed', // this replacement cannot serve: try another
  'refuted', // the old primary serves on, alive again or unable to hand over, and was not fenced
  'gaveUp',
] as const;
export type FailoverEvent = (typeof FAILOVER_EVENTS)[number];

const STAY = {
  offersFound: 'stay',
  machineReady: 'stay',
  restored: 'stay',
  committed: 'stay',
  headMoved: 'stay',
  workloadChecked: 'stay',
  switched: 'stay',
  released: 'stay',
  attemptFailed: 'stay',
  refuted: 'stay',
  gaveUp: 'stay',
} as const;

/** Total: each row spreads the all-`stay` row and overrides what the state answers. Spec: control-plane/docs/FAILOVER.md. */
export const FAILOVER_TABLE: TransitionTable<FailoverState, FailoverEvent> = {
  searching: {
    ...STAY,
    offersFound: 'provisioning',
    refuted: 'averting',
    gaveUp: 'failing',
    attemptFailed: 'searching',
  },
  provisioning: {
    ...STAY,
    machineReady: 'restoring',
    attemptFailed: 'searching',
    refuted: 'averting',
    gaveUp: 'failing',
  },
  restoring: { ...STAY, restored: 'committing', attemptFailed: 'searching', refuted: 'averting', gaveUp: 'failing' },
  committing: {
    ...STAY,
    committed: 'resuming',
    headMoved: 'restoring',
    attemptFailed: 'searching',
    refuted: 'averting',
    gaveUp: 'failing',
  },
  resuming: { ...STAY, workloadChecked: 'switching', attemptFailed: 'searching', gaveUp: 'failing' },
  switching: { ...STAY, switched: 'releasing', attemptFailed: 'searching', gaveUp: 'failing' },
  releasing: { ...STAY, released: 'completed' },
  completed: STAY,
  averting: { ...STAY, released: 'averted' },
  averted: STAY,
  failing: { ...STAY, released: 'failed' },
  failed: STAY,
};

/** True when nothing more will happen in this operation. */
export function isFailoverOver(state: FailoverState): boolean {
  return state === 'completed' || state === 'averted' || state === 'failed';
}
