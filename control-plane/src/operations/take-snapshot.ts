import type { WorkspaceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { SnapshotRow } from '../store/snapshots.ts';
import { findSnapshot } from '../store/snapshots.ts';
import { workspaceOf } from './move-steps.ts';
import { runOnMachine } from './on-machine.ts';
import type { OperationParts } from './operation-parts.ts';

/**
 * Has the primary take and commit a snapshot now.
 * @returns null when nothing changed since the head
 * @throws {DumontError} CONFLICT without a connected primary; otherwise what the agent answered
 */
export async function takeSnapshot(
  parts: Pick<OperationParts, 'db' | 'hub' | 'clock' | 'limits'>,
  workspaceId: WorkspaceId,
  options: { readonly signal: AbortSignal },
): Promise<SnapshotRow | null> {
  const { name, primaryInstanceId } = await workspaceOf(parts, workspaceId);
  if (primaryInstanceId === null || !parts.hub.isConnected(primaryInstanceId)) {
    throw new DumontError('CONFLICT', `workspace ${name} has no machine that could take a snapshot now`, {
      retryable: true,
      hint: 'Look at dumont machines list and dumont failover status.',
    });
  }
  const { record } = await runOnMachine(
    parts,
    primaryInstanceId,
    { name: 'snapshot' },
    { commandId: newId('command'), timeoutMs: parts.limits.finalSnapshotTimeoutMs, signal: options.signal },
  );
  return record === null ? null : ((await findSnapshot(parts.db, record.snapshotId)) ?? null);
}
