import type { TransitionTable } from './transition.ts';

/**
 * The states of trying a workspace's failover out on a machine of its own, beside the primary, which goes on untouched. The
 * machine never becomes primary.
 */
export const FAILOVER_TEST_STATES = [
  'snapshotting', // the primary takes a snapshot
  'searching', // rank offers
  'provisioning', // rent by strategy until one machine's agent said hello
  'restoring', // put that snapshot on it
  'verifying', // read every byte back there
  'checking', // the workload serves there, where a model is named
  'destroying', // until the provider has twice denied that anything rented exists
  'completed',
  'failed', // a step did not work out; what was rented is gone all the same
] as const;
export type FailoverTestState = (typeof FAILOVER_TEST_STATES)[number];

export const FAILOVER_TEST_EVENTS = [
  'saved',
  'offersFound',
  'machineReady',
  'restored',
  'verified',
  'checked',
  'attemptFailed', // no machine came up: try others
  'stepFailed',
  'cancelled', // by an operator
  'stillThere', // not proven gone yet
  'destroyed',
  'destroyedAfterFailure',
] as const;
export type FailoverTestEvent = (typeof FAILOVER_TEST_EVENTS)[number];

const STAY = {
  saved: 'stay',
  offersFound: 'stay',
  machineReady: 'stay',
  restored: 'stay',
  verified: 'stay',
  checked: 'stay',
  attemptFailed: 'stay',
  stepFailed: 'stay',
  cancelled: 'stay',
  stillThere: 'stay',
  destroyed: 'stay',
  destroyedAfterFailure: 'stay',
} as const;
/** Whatever goes wrong before the end, everything rented is destroyed. */
const STEP = { ...STAY, stepFailed: 'destroying', cancelled: 'destroying' } as const;

export const FAILOVER_TEST_TABLE: TransitionTable<FailoverTestState, FailoverTestEvent> = {
  snapshotting: { ...STEP, saved: 'searching' },
  searching: { ...STEP, offersFound: 'provisioning' },
  provisioning: { ...STEP, machineReady: 'restoring', attemptFailed: 'searching' },
  restoring: { ...STEP, restored: 'verifying' },
  verifying: { ...STEP, verified: 'checking' },
  checking: { ...STEP, checked: 'destroying' },
  destroying: { ...STAY, destroyed: 'completed', destroyedAfterFailure: 'failed' },
  completed: STAY,
  failed: STAY,
};
