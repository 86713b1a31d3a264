import type { InstanceId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { toDumontError } from '@dumont/shared/util/errors.ts';
import { workspaceOf } from './move-steps.ts';
import { runOnMachine } from './on-machine.ts';
import type { OperationParts } from './operation-parts.ts';
import { restartWorkload } from './restart-workload.ts';
import { stopTimeoutMs } from './workload-limits.ts';

/** How often the detector's opinion is asked besides the bell. */
const VERDICT_POLL_MS = 250;
/** Longest wait for a machine that neither answers nor is lost: several times what the slowest detection takes. */
const VERDICT_TIMEOUT_MS = 60_000;

export type HandOver =
  /** Its workload is stopped and all it wrote is in the head. */
  | { readonly kind: 'saved'; readonly savedAtMs: number }
  /** It could not save, so it stays what it is, with its workload running. */
  | { readonly kind: 'kept'; readonly error: string }
  /** It is primary no more: the detector fenced it meanwhile. */
  | { readonly kind: 'fenced' };

/**
 * Has a primary give up its work in good order: stops the workload and publishes what is left. Nothing is fenced. Only the
 * detector may find that a machine is lost; one that answers keeps the workspace rather than lose what it wrote.
 * Idempotent.
 */
export async function handOver(
  parts: OperationParts,
  target: { readonly workspaceId: WorkspaceId; readonly instanceId: InstanceId; readonly signal: AbortSignal },
): Promise<HandOver> {
  const { workspaceId, instanceId, signal } = target;
  const untilMs = parts.clock.monotonicMs() + VERDICT_TIMEOUT_MS;
  for (;;) {
    const { primaryInstanceId } = await workspaceOf(parts, workspaceId);
    if (primaryInstanceId !== instanceId) return { kind: 'fenced' };
    if (parts.wardship.isAlive(instanceId)) {
      const outcome = await saveAll(parts, target);
      if (outcome !== null) return outcome;
    } else if (parts.clock.monotonicMs() >= untilMs) {
      return { kind: 'kept', error: notMoved('the machine does not answer, and is not proven lost') };
    }
    await parts.changed.wait({ clock: parts.clock, atMostMs: VERDICT_POLL_MS, signal });
  }
}

/** Null when contact was lost on the way: what to do depends on whether the machine is. */
async function saveAll(
  parts: OperationParts,
  target: { readonly workspaceId: WorkspaceId; readonly instanceId: InstanceId; readonly signal: AbortSignal },
): Promise<HandOver | null> {
  const { workspaceId, instanceId, signal } = target;
  const { workloadGraceMs, finalSnapshotTimeoutMs } = parts.limits;
  const { policy } = await workspaceOf(parts, workspaceId);
  try {
    await runOnMachine(
      parts,
      instanceId,
      { name: 'stop-workload', graceMs: workloadGraceMs },
      { commandId: newId('command'), timeoutMs: stopTimeoutMs(parts.limits, policy.workload), signal },
    );
    await runOnMachine(
      parts,
      instanceId,
      { name: 'snapshot' },
      { commandId: newId('command'), timeoutMs: finalSnapshotTimeoutMs, signal },
    );
    return { kind: 'saved', savedAtMs: parts.clock.nowMs() };
  } catch (error) {
    if (signal.aborted) throw error;
    if (!parts.wardship.isAlive(instanceId)) return null;
    const { message } = toDumontError(error);
    const notStarted = await restartWorkload(parts, target);
    const left = notStarted === null ? '' : ` Its workload could not be started again: ${notStarted}.`;
    return { kind: 'kept', error: notMoved(message) + left };
  }
}

function notMoved(why: string): string {
  return `no last snapshot could be taken, so the workspace stays on its machine: ${why}.`;
}
