import type { Action, ActionResult } from '@dumont/shared/protocol/command.ts';
import type { Workload as WorkloadSpec } from '@dumont/shared/model/policy.ts';
import type { Assignment } from '@dumont/shared/protocol/hello.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { assertNever } from '@dumont/shared/util/assert.ts';
import { DumontError, isDumontError } from '@dumont/shared/util/errors.ts';
import { askNvidiaSmi } from '../host/ask-nvidia-smi.ts';
import { readProbe, writeProbe } from '../host/disk-probe.ts';
import type { WorkloadKeeper } from '../workload/workload-keeper.ts';
import type { WorkOptions, WorkspaceEngine } from './engine.ts';

const MAX_ERROR_CHARS = 2_000;

const TRIAL_NAMES = ['verify-restore', 'trial-workload', 'write-probe', 'read-probe', 'sample-gpus'] as const;
/** What a machine is asked to show of itself before anybody depends on it. */
export type TrialAction = Extract<Action, { readonly name: (typeof TRIAL_NAMES)[number] }>;

export interface TrialOptions {
  readonly workspaceDir: string;
  /** Name or path of nvidia-smi. */
  readonly nvidiaSmi: string;
  readonly workload: WorkloadKeeper;
  readonly clock: Clock;
  /** The assignment, once it has a grant. @throws {DumontError} CONFLICT when this is no replacement */
  readonly asReplacement: (signal: AbortSignal) => Promise<Assignment>;
  readonly engineFor: (assignment: Assignment) => Promise<WorkspaceEngine>;
}

export function isTrial(action: Action): action is TrialAction {
  return (TRIAL_NAMES as readonly string[]).includes(action.name);
}

/**
 * Performs what a test asks of a machine. For replacements only: whoever serves users is refused.
 * @throws {DumontError} CONFLICT for any other standing; NOT_FOUND for a workload or a file that is not there; IO
 */
export async function performTrial(
  action: TrialAction,
  trial: TrialOptions,
  options: WorkOptions,
): Promise<ActionResult> {
  const { workspaceDir: folder, clock } = trial;
  const { signal } = options;
  const assignment = await trial.asReplacement(signal);
  switch (action.name) {
    case 'verify-restore': {
      const engine = await trial.engineFor(assignment);
      return { name: 'verify-restore', folder: await engine.check({ ...options, snapshot: action.snapshot }) };
    }
    case 'trial-workload':
      return tryWorkload(action, trial, { spec: assignment.workload, signal });
    case 'write-probe': {
      const { nonce, sizeBytes } = action;
      return { name: 'write-probe', file: await writeProbe({ folder, nonce, sizeBytes, clock, signal }) };
    }
    case 'read-probe':
      return { name: 'read-probe', file: await readProbe({ folder, nonce: action.nonce, clock, signal }) };
    case 'sample-gpus':
      return askNvidiaSmi(trial.nvidiaSmi, { clock, signal });
    default:
      return assertNever(action);
  }
}

/** Everything it started is ended again, whatever came of it. */
async function tryWorkload(
  { stableMs, check, graceMs }: Extract<TrialAction, { readonly name: 'trial-workload' }>,
  { workload }: TrialOptions,
  { spec, signal }: { readonly spec: WorkloadSpec | null; readonly signal: AbortSignal },
): Promise<Extract<ActionResult, { readonly name: 'trial-workload' }>> {
  if (spec === null) throw new DumontError('NOT_FOUND', 'this workspace has no workload');
  try {
    await workload.afterRestore(spec, signal);
    const started = await workload.start({ ...spec, check }, { stableMs, check: true, signal });
    const report = started.check ?? null;
    return { name: 'trial-workload', state: started.state, check: report, error: report?.error ?? null };
  } catch (error) {
    if (!isDumontError(error, 'WORKLOAD')) throw error;
    const { message } = error;
    return { name: 'trial-workload', state: workload.state, check: null, error: message.slice(0, MAX_ERROR_CHARS) };
  } finally {
    await workload.stop(graceMs);
  }
}
