import type { InstanceId, OperationId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { StandbyLag } from '../hub/standby-lag.ts';
import { appendEvent } from '../store/events.ts';
import type { InstanceRow } from '../store/instances.ts';
import { findInstance } from '../store/instances.ts';
import { findOperation } from '../store/operations.ts';
import type { SnapshotRow } from '../store/snapshots.ts';
import { findSnapshot } from '../store/snapshots.ts';
import { promoteStandby } from '../store/standbys.ts';
import type { WorkspaceRow } from '../store/workspaces.ts';
import { findWorkspace } from '../store/workspaces.ts';
import { failoverDataSchema } from './failover.ts';
import type { OperationParts } from './operation-parts.ts';

/** A standby not heard for several beats may be lost as well: users must not be sent to it. */
const STANDBY_SILENCE_MS = 2_000;
/** A standby this little behind is in step: reading, sending and the time between two beats. */
const IN_STEP_MS = 500;
/**
 * Of one in step a snapshot may seem this much newer: the last beat is up to 300 ms old, and a change is on the standby before
 * the snapshot that holds it is committed. Without the standby, all that was written after that snapshot is lost.
 */
const TIE_MS = 1_000;
/** The lost machine may have published at this very moment: then everything is looked at again. */
const ATTEMPTS = 3;

type TakeoverParts = Pick<OperationParts, 'db' | 'clock' | 'hub' | 'wardship' | 'changed' | 'onChange' | 'standbyLag'>;

/** A primary that the detector gave up for good, and the operation that moves its workspace. */
interface Loss {
  readonly workspaceId: WorkspaceId;
  readonly instanceId: InstanceId;
  readonly operationId: OperationId | null;
}

/**
 * Sends users to the standby in place of a lost primary: fences the one, promotes the other and points users at it, all
 * in one transaction. It interrupts nothing: the running failover finds the standby as primary and moves the work on from
 * there. Only a standby whose copy is known to be whole, and newer than the last snapshot, is used; why another is not is
 * written down. Idempotent.
 * @returns false when there is none that may be used: the caller fences the lost machine
 */
export async function takeOver(parts: TakeoverParts, loss: Loss): Promise<boolean> {
  const { db } = parts;
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const workspace = await findWorkspace(db, loss.workspaceId);
    if (workspace === undefined) return false;
    if (workspace.primaryInstanceId !== loss.instanceId) return tellAgain(parts, loss, workspace);
    const { standbyInstanceId } = workspace;
    const standby = standbyInstanceId === null ? undefined : await findInstance(db, standbyInstanceId);
    const lag = await knownLag(parts, loss);
    if (standby === undefined || lag === 'not-wanted') return false;
    const { headSnapshotId } = workspace;
    const head = headSnapshotId === null ? undefined : await findSnapshot(db, headSnapshotId);
    const reason = objectionTo({ ...presenceOf(parts, standby, workspace), lag, head });
    if (reason !== null) {
      await recordUnused(parts, loss, { standbyId: standby.id, reason });
      return false;
    }
    const promoted = await promote(parts, loss, { standby, headSnapshotId, behindMs: lag?.ms ?? 0 });
    if (promoted === undefined) continue;
    parts.onChange();
    await tell(parts, loss, promoted);
    return true;
  }
  return false;
}

/** What decides whether a standby may become primary. */
export interface StandbyFacts {
  readonly isConnected: boolean;
  /** Since anything was heard of it. */
  readonly silentMs: number;
  readonly readyAtMs: number;
  readonly upMs: number;
  /** From when on it is trusted, by policy. */
  readonly trustAfterMs: number;
  /** What the lost primary said last of its standby. */
  readonly lag: StandbyLag | null;
  readonly head: Pick<SnapshotRow, 'committedAtMs' | 'record'> | undefined;
}

/** Why a standby must not become primary; null when it may. Pure. Only what is known to be whole and newer counts. */
export function objectionTo(facts: StandbyFacts): string | null {
  const { isConnected, silentMs, readyAtMs, upMs, trustAfterMs, lag, head } = facts;
  if (!isConnected) return 'the standby is not connected';
  if (silentMs > STANDBY_SILENCE_MS) return `the standby was not heard for ${Math.round(silentMs)} ms`;
  // A beat from before this standby joined speaks of another.
  if (lag === null || lag.atMs <= readyAtMs) return 'nobody knows whether the standby had everything';
  if (upMs < trustAfterMs) return 'the standby was not up for long enough to be trusted';
  const toleranceMs = lag.ms <= IN_STEP_MS ? TIE_MS : 0;
  if (head !== undefined && heldSinceMs(head) - (lag.atMs - lag.ms) > toleranceMs) return 'the last snapshot is newer';
  return null;
}

/** Everything written before is in the snapshot, by our own clock: those of machines may be wrong. */
function heldSinceMs({ committedAtMs, record }: Pick<SnapshotRow, 'committedAtMs' | 'record'>): number {
  return committedAtMs - record.createMs;
}

function presenceOf(
  { hub, clock }: TakeoverParts,
  { id, readyAtMs }: InstanceRow,
  { policy }: WorkspaceRow,
): Omit<StandbyFacts, 'lag' | 'head'> {
  const heardAtMs = hub.heardAtMonotonicMs(id);
  return {
    isConnected: hub.isConnected(id),
    silentMs: heardAtMs === null ? Infinity : clock.monotonicMs() - heardAtMs,
    readyAtMs: readyAtMs ?? Infinity,
    upMs: readyAtMs === null ? 0 : clock.nowMs() - readyAtMs,
    trustAfterMs: policy.standby.trustAfterMs,
  };
}

/**
 * What is known of the standby's copy; null when nothing is. `not-wanted` when nobody is to be sent there: the machine is
 * being stopped on purpose, or has handed over already.
 */
async function knownLag(
  { db, standbyLag }: TakeoverParts,
  { instanceId, operationId }: Loss,
): Promise<StandbyLag | null | 'not-wanted'> {
  const operation = operationId === null ? undefined : await findOperation(db, operationId);
  if (operation?.kind !== 'failover') return 'not-wanted';
  const data = failoverDataSchema.parse(operation.data);
  if (data.handedOverId === instanceId) return 'not-wanted';
  const saved = data.fromInstanceId === instanceId ? data.standbyLag : null;
  return standbyLag(instanceId) ?? saved;
}

async function promote(
  { db, clock }: TakeoverParts,
  { workspaceId, instanceId, operationId }: Loss,
  by: {
    readonly standby: InstanceRow;
    readonly headSnapshotId: WorkspaceRow['headSnapshotId'];
    readonly behindMs: number;
  },
): Promise<WorkspaceRow | undefined> {
  const { standby, headSnapshotId, behindMs } = by;
  return db.transaction(async (tx) => {
    const seen = { primaryId: instanceId, standbyId: standby.id, headSnapshotId };
    const workspace = await promoteStandby(tx, workspaceId, seen);
    if (workspace === undefined) return undefined;
    const { epoch } = workspace;
    const about = { atMs: clock.nowMs(), workspaceId, operationId };
    await appendEvent(tx, { ...about, type: 'workspace.fenced', instanceId, data: { epoch } });
    const data = { from: instanceId, epoch, behindMs };
    await appendEvent(tx, { ...about, type: 'workspace.on-standby', instanceId: standby.id, data });
    return workspace;
  });
}

/** Both machines hear it; users are pointed at the standby before that. */
async function tell(
  { changed, wardship }: TakeoverParts,
  { instanceId }: Loss,
  { primaryInstanceId, policy }: WorkspaceRow,
): Promise<void> {
  changed.ring();
  wardship.unwatch(instanceId);
  if (primaryInstanceId !== null) {
    wardship.watch(primaryInstanceId, policy.detectMode);
    await wardship.inform(primaryInstanceId);
  }
  await wardship.inform(instanceId);
}

/** An earlier run that was cut short may have told nobody. */
async function tellAgain(parts: TakeoverParts, loss: Loss, workspace: WorkspaceRow): Promise<boolean> {
  const { primaryInstanceId } = workspace;
  const primary = primaryInstanceId === null ? undefined : await findInstance(parts.db, primaryInstanceId);
  if (primary?.role !== 'standby') return false;
  await tell(parts, loss, workspace);
  return true;
}

async function recordUnused(
  { db, clock, onChange }: TakeoverParts,
  { workspaceId, operationId }: Loss,
  { standbyId: instanceId, reason }: { readonly standbyId: InstanceId; readonly reason: string },
): Promise<void> {
  const atMs = clock.nowMs();
  await appendEvent(db, { type: 'standby.not-used', atMs, workspaceId, instanceId, operationId, data: { reason } });
  onChange();
}
