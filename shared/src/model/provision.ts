import type { TransitionTable } from './transition.ts';

/** The states of putting a new workspace on its first machine. */
export const PROVISION_STATES = [
  'searching',
  'provisioning',
  'restoring', // the initial snapshot, when there is one
  'promoting', // the machine becomes primary
  'resuming', // start the workload and check it
  'switching', // point users at it
  'completed',
  'failing', // give back what was rented
  'failed',
] as const;
export type ProvisionState = (typeof PROVISION_STATES)[number];

export const PROVISION_EVENTS = [
  'offersFound',
  'machineReady',
  'restored',
  'promoted',
  'workloadChecked',
  'switched',
  'attemptFailed',
  'gaveUp',
  'released',
] as const;
export type ProvisionEvent = (typeof PROVISION_EVENTS)[number];

const STAY = {
  offersFound: 'stay',
  machineReady: 'stay',
  restored: 'stay',
  promoted: 'stay',
  workloadChecked: 'stay',
  switched: 'stay',
  attemptFailed: 'stay',
  gaveUp: 'stay',
  released: 'stay',
} as const;
/** Until the workload runs, a bad machine is replaced by another attempt. */
const RETRY = { ...STAY, attemptFailed: 'searching', gaveUp: 'failing' } as const;

export const PROVISION_TABLE: TransitionTable<ProvisionState, ProvisionEvent> = {
  searching: { ...RETRY, offersFound: 'provisioning' },
  provisioning: { ...RETRY, machineReady: 'restoring' },
  restoring: { ...RETRY, restored: 'promoting' },
  promoting: { ...RETRY, promoted: 'resuming' },
  resuming: { ...RETRY, workloadChecked: 'switching' },
  switching: { ...STAY, switched: 'completed' },
  completed: STAY,
  failing: { ...STAY, released: 'failed' },
  failed: STAY,
};
