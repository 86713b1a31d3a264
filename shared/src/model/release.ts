import type { TransitionTable } from './transition.ts';

/** The states of stopping and destroying one machine on purpose. */
export const RELEASE_STATES = [
  'saving', // a primary stops its workload and takes a last snapshot
  'detaching', // the machine's epoch is fenced and users are pointed away
  'releasing', // the provider destroys it, proven twice
  'completed',
  'failed', // it could not be saved: it keeps running
] as const;
export type ReleaseState = (typeof RELEASE_STATES)[number];

export const RELEASE_EVENTS = ['saved', 'saveFailed', 'detached', 'released'] as const;
export type ReleaseEvent = (typeof RELEASE_EVENTS)[number];

const STAY = { saved: 'stay', saveFailed: 'stay', detached: 'stay', released: 'stay' } as const;

export const RELEASE_TABLE: TransitionTable<ReleaseState, ReleaseEvent> = {
  saving: { ...STAY, saved: 'detaching', saveFailed: 'failed' },
  detaching: { ...STAY, detached: 'releasing' },
  releasing: { ...STAY, released: 'completed' },
  completed: STAY,
  failed: STAY,
};
