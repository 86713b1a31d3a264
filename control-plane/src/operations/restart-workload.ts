import type { InstanceId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { workloadOf } from '@dumont/shared/model/policy.ts';
import { toDumontError } from '@dumont/shared/util/errors.ts';
import { findInstance } from '../store/instances.ts';
import { workspaceOf } from './move-steps.ts';
import { runOnMachine } from './on-machine.ts';
import type { OperationParts } from './operation-parts.ts';

/**
 * Lets the work go on where it was stopped for an operation that did not come about. It starts once, however often this
 * runs.
 * @returns why it could not be started; null when it runs, or the workspace has no workload
 * @throws what the signal was aborted with
 */
export async function restartWorkload(
  parts: Pick<OperationParts, 'db' | 'hub' | 'clock' | 'limits'>,
  target: { readonly workspaceId: WorkspaceId; readonly instanceId: InstanceId; readonly signal: AbortSignal },
): Promise<string | null> {
  const { workspaceId, instanceId, signal } = target;
  const { policy } = await workspaceOf(parts, workspaceId);
  const instance = await findInstance(parts.db, instanceId);
  if (instance === undefined || workloadOf(policy, instance.role) === null) return null;
  const { workloadStableMs, workloadStartTimeoutMs } = parts.limits;
  try {
    await runOnMachine(
      parts,
      instanceId,
      { name: 'start-workload', stableMs: workloadStableMs },
      { commandId: newId('command'), timeoutMs: workloadStartTimeoutMs, signal },
    );
    return null;
  } catch (error) {
    if (signal.aborted) throw error;
    return toDumontError(error).message;
  }
}
