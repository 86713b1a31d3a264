import type { TransitionTable } from '@dumont/shared/model/transition.ts';
import type { WorkloadState } from '@dumont/shared/protocol/heartbeat.ts';

/**
 * - `spawned`: a process of it runs
 * - `finished`: it exited with 0
 * - `crashed`: it exited with an error and will be started again
 * - `gaveUp`: it exited with an error, or could not be started, and will not be started again
 * - `stopped`: it was told to stop
 */
export type WorkloadEvent = 'spawned' | 'finished' | 'crashed' | 'gaveUp' | 'stopped';

/** A stop after the end changes nothing: `exited` and `failed` say more. */
export const WORKLOAD_TABLE: TransitionTable<WorkloadState, WorkloadEvent> = {
  unstarted: { spawned: 'running', finished: 'stay', crashed: 'stay', gaveUp: 'failed', stopped: 'stopped' },
  running: { spawned: 'stay', finished: 'exited', crashed: 'restarting', gaveUp: 'failed', stopped: 'stopped' },
  restarting: { spawned: 'running', finished: 'stay', crashed: 'stay', gaveUp: 'failed', stopped: 'stopped' },
  exited: { spawned: 'running', finished: 'stay', crashed: 'stay', gaveUp: 'failed', stopped: 'stay' },
  failed: { spawned: 'running', finished: 'stay', crashed: 'stay', gaveUp: 'stay', stopped: 'stay' },
  stopped: { spawned: 'running', finished: 'stay', crashed: 'stay', gaveUp: 'failed', stopped: 'stay' },
};
