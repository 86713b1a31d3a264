import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { WorkspaceRow } from '../store/workspaces.ts';
import { promotePrimary } from '../store/workspaces.ts';
import type { FailoverContext, FailoverData, FailoverResult } from './failover.ts';
import { fence } from './fence.ts';
import { handOver } from './hand-over.ts';
import { readyReplacement, workspaceOf } from './move-steps.ts';
import type { OperationParts } from './operation-parts.ts';
import { saveFromStandby } from './standby-save.ts';

/** How often the fence is looked up besides the bell. */
const FENCE_POLL_MS = 250;
/** Several times what any provider leaves between the notice and the end: a machine that still runs was not taken back. */
const PREEMPTION_PATIENCE_MS = 120_000;

/**
 * The point of no return. Waits until the old epoch is fenced (by the detector's commit, or, for an operator, once the
 * old primary handed over), makes sure the replacement holds the very last snapshot the old primary published, and
 * promotes it. A primary that serves on, because it came back or could not hand over, averts the move.
 */
export async function commitStep(parts: OperationParts, context: FailoverContext): FailoverResult {
  const replacement = readyReplacement(context.data);
  let { data } = context;
  for (;;) {
    const workspace = await workspaceOf(parts, context.workspaceId);
    const { primaryInstanceId } = workspace;
    if (primaryInstanceId === replacement) return committed(parts, workspace, replacement, data);
    if (primaryInstanceId === null) {
      data = await saveFromStandby(parts, { ...context, data, save: (changed) => context.save(changed) }, workspace);
      // What the standby saved is the head now.
      return promote(parts, await workspaceOf(parts, context.workspaceId), replacement, data);
    }
    if (primaryInstanceId === data.fromInstanceId && data.trigger === 'detector') {
      if (parts.wardship.isAlive(primaryInstanceId)) return { event: 'refuted', data };
      await parts.changed.wait({ clock: parts.clock, atMostMs: FENCE_POLL_MS, signal: context.signal });
      continue;
    }
    // A move that was asked for or announced hands over in good order; a replacement of this very failover that failed is cut off.
    if (primaryInstanceId === data.fromInstanceId && !data.handedOver) {
      const { workspaceId, signal } = context;
      const outcome = await handOver(parts, { workspaceId, instanceId: primaryInstanceId, signal });
      if (outcome.kind === 'kept' && isGoing(parts, data)) {
        await parts.changed.wait({ clock: parts.clock, atMostMs: FENCE_POLL_MS, signal });
        continue;
      }
      if (outcome.kind === 'kept') return { event: 'refuted', data, error: outcome.error };
      if (outcome.kind === 'fenced') continue;
      data = { ...context.data, handedOver: true, savedAtMs: outcome.savedAtMs };
      await context.save(data);
    }
    await fence(parts, { workspaceId: workspace.id, instanceId: primaryInstanceId, operationId: context.operationId });
  }
}

/** Its provider takes it back: one that cannot save is asked again until it can, or is lost. */
function isGoing({ clock }: OperationParts, { trigger, confirmedAtMs }: FailoverData): boolean {
  return trigger === 'preempted' && clock.nowMs() - confirmedAtMs < PREEMPTION_PATIENCE_MS;
}

async function promote(
  parts: OperationParts,
  workspace: WorkspaceRow,
  replacement: InstanceId,
  data: FailoverData,
): FailoverResult {
  if (workspace.headSnapshotId !== data.restoredSnapshotId) {
    return { event: 'headMoved', data, detail: { head: workspace.headSnapshotId, restored: data.restoredSnapshotId } };
  }
  const promoted = await parts.db.transaction((tx) => promotePrimary(tx, workspace.id, replacement, workspace.epoch));
  if (promoted === undefined) return { event: 'attemptFailed', data, detail: { error: 'the epoch moved on' } };
  // Users are pointed at it from this moment on, whatever the rest of the step takes.
  parts.changed.ring();
  return committed(parts, promoted, replacement, { ...data, committedAtMs: parts.clock.nowMs() });
}

async function committed(
  parts: OperationParts,
  workspace: WorkspaceRow,
  replacement: InstanceId,
  data: FailoverData,
): FailoverResult {
  parts.wardship.watch(replacement, workspace.policy.detectMode);
  await parts.wardship.inform(replacement);
  if (workspace.standbyInstanceId !== null) await parts.wardship.inform(workspace.standbyInstanceId);
  return { event: 'committed', data: { ...data, epoch: workspace.epoch }, detail: { epoch: workspace.epoch } };
}
