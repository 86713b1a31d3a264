import type { OperationId } from '@dumont/shared/model/ids.ts';
import type { Standing } from '@dumont/shared/model/instance.ts';
import type { InstanceRow } from '../store/instances.ts';
import type { WorkspaceRow } from '../store/workspaces.ts';

/**
 * What an instance is to its workspace now. Whatever is neither primary, standby nor being prepared by the operation
 * that moves the workspace is fenced: when in doubt, it must not publish. Pure.
 * @param facts.movedBy the unfinished operation that moves the workspace, null without one
 */
export function standingOf(facts: {
  readonly workspace: WorkspaceRow;
  readonly instance: InstanceRow;
  readonly movedBy: OperationId | null;
}): Standing {
  const { workspace, instance, movedBy } = facts;
  if (workspace.primaryInstanceId === instance.id) return 'primary';
  if (instance.role === 'standby') return 'standby';
  const isPrepared = movedBy !== null && instance.operationId === movedBy && instance.epoch === null;
  const isComing = instance.state === 'requested' || instance.state === 'booting' || instance.state === 'ready';
  return isPrepared && isComing ? 'replacement' : 'fenced';
}
