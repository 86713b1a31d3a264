import type { TransitionTable } from './transition.ts';

/** The states of finding a workspace its standby machine. */
export const STANDBY_STATES = [
  'searching', // rank offers
  'provisioning', // rent one, wait for its agent, name it the standby
  'completed',
  'failing', // give back what was rented
  'failed', // none is to be had now; another operation tries again later
] as const;
export type StandbyState = (typeof STANDBY_STATES)[number];

export const STANDBY_EVENTS = ['offersFound', 'standbyNamed', 'attemptFailed', 'gaveUp', 'released'] as const;
export type StandbyEvent = (typeof STANDBY_EVENTS)[number];

const STAY = {
  offersFound: 'stay',
  standbyNamed: 'stay',
  attemptFailed: 'stay',
  gaveUp: 'stay',
  released: 'stay',
} as const;

/** It moves nothing: whatever becomes of it, the workspace is served as before. */
export const STANDBY_TABLE: TransitionTable<StandbyState, StandbyEvent> = {
  searching: { ...STAY, offersFound: 'provisioning', gaveUp: 'failing' },
  provisioning: { ...STAY, standbyNamed: 'completed', attemptFailed: 'searching', gaveUp: 'failing' },
  completed: STAY,
  failing: { ...STAY, released: 'failed' },
  failed: STAY,
};
