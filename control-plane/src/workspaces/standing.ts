import type { OperationId } from '@dumont/shared/model/ids.ts';
import type { InstanceState, Standing } from '@dumont/shared/model/instance.ts';
import type { InstanceRow } from '../store/instances.ts';
import type { WorkspaceRow } from '../store/workspaces.ts';

/**
 * What an instance is to its workspace now. Pure. Only the holder of the lease is primary; an instance that was primary
 * before, or that no running operation prepares, is fenced.
 */
export function standingOf(facts: {
  readonly workspace: Pick<WorkspaceRow, 'primaryInstanceId'>;
  readonly instance: Pick<InstanceRow, 'id' | 'role' | 'state' | 'epoch' | 'operationId'>;
  /** The unfinished operation that moves the workspace. */
  readonly movedBy: OperationId | null;
  /** An unfinished test rented it: it is prepared like a replacement, and nothing ever promotes it. */
  readonly isOnTest?: boolean;
}): Standing {
  const { workspace, instance, movedBy, isOnTest = false } = facts;
  if (workspace.primaryInstanceId === instance.id) return 'primary';
  if (instance.epoch !== null || !HELD.has(instance.state)) return 'fenced';
  if (instance.role === 'standby') return 'standby';
  return isOnTest || (movedBy !== null && instance.operationId === movedBy) ? 'replacement' : 'fenced';
}

/** A machine that is lost or being given back has no part in the workspace any more. */
const HELD: ReadonlySet<InstanceState> = new Set(['requested', 'booting', 'ready']);
