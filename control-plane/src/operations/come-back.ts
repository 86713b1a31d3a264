import type { FailoverEvent } from '@dumont/shared/model/failover.ts';
import type { InstanceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { toDumontError } from '@dumont/shared/util/errors.ts';
import { listSnapshots } from '../store/snapshots.ts';
import type { FailoverContext, FailoverData } from './failover.ts';
import { fence } from './fence.ts';
import { handOver } from './hand-over.ts';
import { workspaceOf } from './move-steps.ts';
import { runOnMachine } from './on-machine.ts';
import type { StepResult } from './operation-kind.ts';
import type { OperationParts } from './operation-parts.ts';

/** A difference that a slow link carries in well under the second that the pause may take. */
const NEAR_BYTES = 8 * 1024 * 1024;
/** Whoever writes faster than a replacement can follow is stopped all the same after this many restores. */
const MAX_NEAR_ROUNDS = 4;
/** Snapshots of a standby between two restores; with more the replacement is not near. */
const MAX_SNAPSHOTS_BETWEEN = 50;

type ComeBack =
  | { readonly kind: 'ends'; readonly result: StepResult<FailoverEvent, FailoverData> }
  /** Nobody is primary, or it is to be looked at who is. */
  | { readonly kind: 'goes-on'; readonly data: FailoverData };

/**
 * Takes the work back from a standby that serves. Users work on while the replacement is brought near to what they have;
 * only then the work is stopped, the rest published and the standby fenced. Everything that was written there is in the
 * head afterwards. A standby that is lost meanwhile is left to the detector.
 */
export async function comeBack(
  parts: OperationParts,
  context: FailoverContext,
  standbyId: InstanceId,
): Promise<ComeBack> {
  let { data } = context;
  const { workspaceId, operationId, signal } = context;
  if (data.handedOverId !== standbyId) {
    const behindBytes = await bytesBehind(parts, context, standbyId);
    if (behindBytes > NEAR_BYTES && data.nearRounds < MAX_NEAR_ROUNDS) {
      const near = { ...data, nearRounds: data.nearRounds + 1 };
      return { kind: 'ends', result: { event: 'headMoved', data: near, detail: { behindBytes } } };
    }
    // Kept over a crash: users wait from here on, whoever goes on.
    data = { ...data, pausedAtMs: data.pausedAtMs ?? parts.clock.nowMs() };
    await context.save(data);
    const outcome = await handOver(parts, { workspaceId, instanceId: standbyId, signal });
    if (outcome.kind !== 'saved') data = { ...data, pausedAtMs: null };
    if (outcome.kind === 'kept') return { kind: 'ends', result: { event: 'refuted', data, error: outcome.error } };
    if (outcome.kind === 'fenced') return { kind: 'goes-on', data };
    data = { ...data, handedOverId: standbyId, savedAtMs: outcome.savedAtMs };
    await context.save(data);
  }
  await fence(parts, { workspaceId, instanceId: standbyId, operationId });
  return { kind: 'goes-on', data };
}

/** Has the standby publish what it has, its work going on. @returns new bytes that the replacement lacks then */
async function bytesBehind(
  parts: OperationParts,
  { workspaceId, data, signal }: FailoverContext,
  standbyId: InstanceId,
): Promise<number> {
  if (parts.wardship.isAlive(standbyId)) {
    try {
      await runOnMachine(
        parts,
        standbyId,
        { name: 'snapshot' },
        { commandId: newId('command'), timeoutMs: parts.limits.finalSnapshotTimeoutMs, signal },
      );
    } catch (error) {
      if (signal.aborted) throw error;
      // Whether it still can is found out by the hand-over, which knows what to do when not.
      const err = toDumontError(error);
      parts.log.warn({ event: 'come-back.snapshot', instanceId: standbyId, err }, 'no snapshot before the hand-over');
    }
  }
  const { headSnapshotId } = await workspaceOf(parts, workspaceId);
  if (headSnapshotId === data.restoredSnapshotId) return 0;
  const newest = await listSnapshots(parts.db, { workspaceId, limit: MAX_SNAPSHOTS_BETWEEN });
  const restored = newest.findIndex(({ id }) => id === data.restoredSnapshotId);
  if (restored === -1) return Infinity;
  return newest.slice(0, restored).reduce((sum, { record }) => sum + record.newBytes, 0);
}
