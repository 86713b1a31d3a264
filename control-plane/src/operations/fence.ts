import type { InstanceId, OperationId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { appendEvent } from '../store/events.ts';
import { fencePrimary } from '../store/workspaces.ts';
import type { OperationParts } from './operation-parts.ts';

/**
 * Ends an instance's right to act for the workspace: epoch + 1, nobody primary; tells the agent when it can hear.
 * Idempotent: repeating it after a failure half-way tells the agent all the same.
 * @returns false when it was not primary any more
 */
export async function fence(
  parts: Pick<OperationParts, 'db' | 'clock' | 'wardship' | 'changed' | 'onChange'>,
  target: {
    readonly workspaceId: WorkspaceId;
    readonly instanceId: InstanceId;
    readonly operationId: OperationId | null;
  },
): Promise<boolean> {
  const { workspaceId, instanceId, operationId } = target;
  const fenced = await parts.db.transaction(async (tx) => {
    const workspace = await fencePrimary(tx, workspaceId, instanceId);
    if (workspace === undefined) return undefined;
    const data = { epoch: workspace.epoch };
    const atMs = parts.clock.nowMs();
    await appendEvent(tx, { type: 'workspace.fenced', atMs, workspaceId, instanceId, operationId, data });
    return workspace;
  });
  parts.wardship.unwatch(instanceId);
  if (fenced !== undefined) {
    parts.onChange();
    parts.changed.ring();
  }
  await parts.wardship.inform(instanceId);
  const standbyId = fenced?.standbyInstanceId ?? null;
  // It receives nothing more of the old epoch; where it cannot be told now, whoever asks something of it tells it.
  if (standbyId !== null) await parts.wardship.inform(standbyId);
  return fenced !== undefined;
}
