import type { TransitionTable } from './transition.ts';

/** The states of trying a provider out: a search, then seven steps with one machine, which is destroyed whatever happens. */
export const PROVIDER_TEST_STATES = [
  'searching', // rank what the provider offers within the budget
  'creating', // order one machine
  'booting', // until the provider says it runs
  'reaching', // until its SSH server greets, and its agent says hello
  'writing', // the agent writes a file
  'verifying', // it reads it back: the hash is the one expected
  'sampling', // nvidia-smi sees the GPUs that were ordered
  'destroying', // until the provider has twice denied that it exists
  'completed',
  'failed', // a step did not work out; the machine is gone all the same
] as const;
export type ProviderTestState = (typeof PROVIDER_TEST_STATES)[number];

export const PROVIDER_TEST_EVENTS = [
  'offersFound',
  'created',
  'running',
  'reached',
  'written',
  'verified',
  'sampled',
  'stepFailed',
  'cancelled', // by an operator
  'stillThere', // not proven gone yet
  'destroyed',
  'destroyedAfterFailure',
] as const;
export type ProviderTestEvent = (typeof PROVIDER_TEST_EVENTS)[number];

const STAY = {
  offersFound: 'stay',
  created: 'stay',
  running: 'stay',
  reached: 'stay',
  written: 'stay',
  verified: 'stay',
  sampled: 'stay',
  stepFailed: 'stay',
  cancelled: 'stay',
  stillThere: 'stay',
  destroyed: 'stay',
  destroyedAfterFailure: 'stay',
} as const;
/** Whatever goes wrong before the end, the machine is destroyed. */
const STEP = { ...STAY, stepFailed: 'destroying', cancelled: 'destroying' } as const;

export const PROVIDER_TEST_TABLE: TransitionTable<ProviderTestState, ProviderTestEvent> = {
  searching: { ...STEP, offersFound: 'creating' },
  creating: { ...STEP, created: 'booting' },
  booting: { ...STEP, running: 'reaching' },
  reaching: { ...STEP, reached: 'writing' },
  writing: { ...STEP, written: 'verifying' },
  verifying: { ...STEP, verified: 'sampling' },
  sampling: { ...STEP, sampled: 'destroying' },
  destroying: { ...STAY, destroyed: 'completed', destroyedAfterFailure: 'failed' },
  completed: STAY,
  failed: STAY,
};
