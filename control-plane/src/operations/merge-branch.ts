import type { MergeBranchBody } from '@dumont/shared/api/branch-endpoints.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import type { MergeResult } from '@dumont/shared/protocol/branch.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { BranchRow } from '../store/branches.ts';
import { findBranch, markMerged } from '../store/branches.ts';
import { appendEvent } from '../store/events.ts';
import { findSnapshot } from '../store/snapshots.ts';
import { refOf } from '../workspaces/assignments.ts';
import { workspaceOf } from './move-steps.ts';
import { runOnMachine } from './on-machine.ts';
import type { OperationParts } from './operation-parts.ts';

/**
 * Has the primary bring a branch's files into the workspace, and tells what became of each. Merging again is harmless:
 * what is there already stays as it is. A caller who leaves does not stop the machine; the branch then stays `open`.
 * @throws {DumontError} NOT_FOUND; CONFLICT for a deleted branch, and without a connected primary; otherwise what the
 * agent answered
 */
export async function mergeBranch(
  parts: Pick<OperationParts, 'db' | 'hub' | 'clock' | 'limits' | 'onChange'>,
  branchId: string,
  request: MergeBranchBody & { readonly signal: AbortSignal },
): Promise<{ readonly branch: BranchRow; readonly merge: MergeResult }> {
  const { strategy, paths, signal } = request;
  const branch = await findBranch(parts.db, branchId);
  if (branch === undefined) throw new DumontError('NOT_FOUND', `branch ${branchId} does not exist`);
  if (branch.state === 'deleted') throw isDeleted(branch);
  const { id, workspaceId } = branch;
  const { name, primaryInstanceId } = await workspaceOf(parts, workspaceId);
  if (primaryInstanceId === null || !parts.hub.isConnected(primaryInstanceId)) {
    throw new DumontError('CONFLICT', `workspace ${name} has no machine that could merge a branch now`, {
      retryable: true,
      hint: 'Look at dumont machines list and dumont failover status.',
    });
  }
  const base = branch.baseSnapshotId === null ? undefined : await findSnapshot(parts.db, branch.baseSnapshotId);
  const { snapshotId, manifestKey, manifestHash } = branch.record;
  const { merge } = await runOnMachine(
    parts,
    primaryInstanceId,
    {
      name: 'merge-branch',
      branchId: id,
      branch: { snapshotId, manifestKey, manifestHash },
      base: base === undefined ? null : refOf(base),
      strategy,
      ...(paths !== undefined && { paths }),
    },
    { commandId: newId('command'), timeoutMs: parts.limits.restoreTimeoutMs, signal },
  );
  const merged = await parts.db.transaction(async (tx) => {
    const atMs = parts.clock.nowMs();
    const { counts, snapshotAfter } = merge;
    const data = { branchId: id, strategy, isWhole: paths === undefined, counts, snapshotAfter };
    await appendEvent(tx, { type: 'branch.merged', atMs, workspaceId, instanceId: primaryInstanceId, data });
    return paths === undefined ? markMerged(tx, id, atMs) : branch;
  });
  parts.onChange();
  return { branch: merged ?? branch, merge };
}

function isDeleted({ id, deletedAtMs, expiresAtMs }: BranchRow): DumontError {
  const why =
    deletedAtMs !== null && deletedAtMs >= expiresAtMs ? 'had reached its age and was deleted' : 'was deleted';
  return new DumontError('CONFLICT', `branch ${id} ${why}`, { hint: 'See "dumont branches list".' });
}
