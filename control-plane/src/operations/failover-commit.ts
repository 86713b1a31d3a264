import type { InstanceId, OperationId } from '@dumont/shared/model/ids.ts';
import type { Queryable } from '../store/database.ts';
import { appendEvent } from '../store/events.ts';
import { findInstance } from '../store/instances.ts';
import type { ReturnData } from '../store/takeovers.ts';
import { findTakeover } from '../store/takeovers.ts';
import type { WorkspaceRow } from '../store/workspaces.ts';
import { promotePrimary } from '../store/workspaces.ts';
import { comeBack } from './come-back.ts';
import type { FailoverContext, FailoverData, FailoverResult } from './failover.ts';
import { fence } from './fence.ts';
import { handOver } from './hand-over.ts';
import { readyReplacement, workspaceOf } from './move-steps.ts';
import type { OperationParts } from './operation-parts.ts';

/** How often the fence is looked up besides the bell. */
const FENCE_POLL_MS = 250;
/** Several times what any provider leaves between the notice and the end: a machine that still runs was not taken back. */
const PREEMPTION_PATIENCE_MS = 120_000;

/**
 * The point of no return. Waits until the old epoch is fenced (by the detector's commit, or, for an operator, once the
 * old primary handed over), makes sure the replacement holds the very last snapshot the old primary published, and
 * promotes it. Where a standby took over meanwhile, the work is taken back from there. A primary that serves on, because it
 * came back or could not hand over, averts the move.
 */
export async function commitStep(parts: OperationParts, context: FailoverContext): FailoverResult {
  const replacement = readyReplacement(context.data);
  let { data } = context;
  for (;;) {
    const workspace = await workspaceOf(parts, context.workspaceId);
    const { primaryInstanceId } = workspace;
    if (primaryInstanceId === replacement) return committed(parts, workspace, replacement, data);
    if (primaryInstanceId === null) return promote(parts, context, workspace, data);
    if ((await findInstance(parts.db, primaryInstanceId))?.role === 'standby') {
      const here = { ...context, data, save: (changed: FailoverData) => context.save(changed) };
      const outcome = await comeBack(parts, here, primaryInstanceId);
      if (outcome.kind === 'ends') return outcome.result;
      data = outcome.data;
      continue;
    }
    if (primaryInstanceId === data.fromInstanceId && data.trigger === 'detector') {
      if (parts.wardship.isAlive(primaryInstanceId)) return { event: 'refuted', data };
      await parts.changed.wait({ clock: parts.clock, atMostMs: FENCE_POLL_MS, signal: context.signal });
      continue;
    }
    // A move that was asked for or announced hands over in good order; a failed replacement of this failover is cut off.
    if (primaryInstanceId === data.fromInstanceId && data.handedOverId !== primaryInstanceId) {
      const { workspaceId, signal } = context;
      const outcome = await handOver(parts, { workspaceId, instanceId: primaryInstanceId, signal });
      if (outcome.kind === 'kept' && isGoing(parts, data)) {
        await parts.changed.wait({ clock: parts.clock, atMostMs: FENCE_POLL_MS, signal });
        continue;
      }
      if (outcome.kind === 'kept') return { event: 'refuted', data, error: outcome.error };
      if (outcome.kind === 'fenced') continue;
      data = { ...data, handedOverId: primaryInstanceId, savedAtMs: outcome.savedAtMs };
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
  context: FailoverContext,
  workspace: WorkspaceRow,
  data: FailoverData,
): FailoverResult {
  const replacement = readyReplacement(data);
  if (workspace.headSnapshotId !== data.restoredSnapshotId) {
    return { event: 'headMoved', data, detail: { head: workspace.headSnapshotId, restored: data.restoredSnapshotId } };
  }
  const atMs = parts.clock.nowMs();
  const promoted = await parts.db.transaction(async (tx) => {
    const after = await promotePrimary(tx, workspace.id, replacement, workspace.epoch);
    if (after !== undefined) await recordReturn(tx, context.operationId, after, { data, atMs });
    return after;
  });
  if (promoted === undefined) return { event: 'attemptFailed', data, detail: { error: 'the epoch moved on' } };
  // Users are pointed at it from this moment on, whatever the rest of the step takes.
  parts.changed.ring();
  return committed(parts, promoted, replacement, { ...data, committedAtMs: atMs });
}

/** Users who were on a standby are told that they are back. */
async function recordReturn(
  tx: Queryable,
  operationId: OperationId,
  { id: workspaceId, primaryInstanceId, epoch }: WorkspaceRow,
  { data, atMs }: { readonly data: FailoverData; readonly atMs: number },
): Promise<void> {
  const takeover = await findTakeover(tx, { workspaceId, operationId, fromInstanceId: data.fromInstanceId });
  if (takeover === undefined) return;
  const { standbyId: from } = takeover;
  const standby = await findInstance(tx, from);
  const handedOver = data.handedOverId === from;
  const untilMs = handedOver ? atMs : (standby?.lostAtMs ?? atMs);
  const back: ReturnData = {
    from,
    epoch,
    handedOver,
    servedMs: Math.max(0, untilMs - takeover.atMs),
    pauseMs: handedOver && data.pausedAtMs !== null ? Math.max(0, atMs - data.pausedAtMs) : null,
  };
  const about = { atMs, workspaceId, instanceId: primaryInstanceId, operationId };
  await appendEvent(tx, { ...about, type: 'workspace.back', data: back });
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
