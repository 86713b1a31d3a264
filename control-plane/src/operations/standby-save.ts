import { z } from 'zod';
import type { InstanceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { commandIdSchema, instanceIdSchema, snapshotIdSchema } from '@dumont/shared/protocol/primitives.ts';
import { toDumontError } from '@dumont/shared/util/errors.ts';
import type { StandbyLag } from '../hub/standby-lag.ts';
import { appendEvent } from '../store/events.ts';
import { findInstance } from '../store/instances.ts';
import type { SnapshotRow } from '../store/snapshots.ts';
import { findSnapshot } from '../store/snapshots.ts';
import { forbidStandbySave, permitStandbySave } from '../store/standbys.ts';
import type { WorkspaceRow } from '../store/workspaces.ts';
import { findWorkspace } from '../store/workspaces.ts';
import { runOnMachine } from './on-machine.ts';
import type { StepContext } from './operation-kind.ts';
import type { OperationParts } from './operation-parts.ts';

/** For a small workspace; each byte adds to it. Longer than this, and the last snapshot is the better bargain. */
const SAVE_BASE_MS = 10_000;
/** A standby reads its whole folder, at this rate on a slow disk, bytes per millisecond. */
const SAVE_BYTES_PER_MS = 100_000;

/** What became of the standby's copy in a failover; part of the operation's data. */
export const standbySaveSchema = z.object({
  instanceId: instanceIdSchema,
  /** `pending`: it was asked; a second run joins the same command. */
  outcome: z.enum(['pending', 'saved', 'nothing-newer', 'failed']),
  commandId: commandIdSchema.nullable(),
  /** The head before it. */
  parentSnapshotId: snapshotIdSchema.nullable(),
  snapshotId: snapshotIdSchema.nullable(),
  /** Work that the last snapshot did not hold and this one does, ms and new bytes. */
  savedMs: z.number().nullable(),
  savedBytes: z.int().nullable(),
  /** How far the standby was behind when the old primary was last heard, ms: what is lost all the same. */
  behindMs: z.number(),
  /** The same in bytes, at most; null in operations that began before it was kept. */
  behindBytes: z.number().nullable().default(null),
  tookMs: z.number().nullable(),
  reason: z.string().nullable(),
});
export type StandbySave = z.infer<typeof standbySaveSchema>;

export const standbyLagSchema = z.object({ bytes: z.number(), ms: z.number(), atMs: z.number() });

/** What the save needs of a failover's data. */
interface SaveData {
  readonly fromInstanceId: InstanceId | null;
  readonly handedOver: boolean;
  readonly silenceBeganAtMs: number;
  readonly standbyLag: StandbyLag | null;
  readonly standbySave: StandbySave | null;
}

/**
 * Once the old epoch is fenced and nobody is primary: has the standby commit what its folder holds, where that is newer
 * than the head. Bounded in time; whatever goes wrong, the failover goes on with the last snapshot. Afterwards the
 * standby may commit nothing, so the head stays what it is. Idempotent: an earlier run's outcome is returned as it was.
 * @returns the data with the outcome; unchanged when there is nothing to ask of anybody
 */
export async function saveFromStandby<Data extends SaveData>(
  parts: OperationParts,
  context: StepContext<Data>,
  workspace: WorkspaceRow,
): Promise<Data> {
  const { data } = context;
  if (workspace.primaryInstanceId !== null) return data;
  if (data.standbySave !== null && data.standbySave.outcome !== 'pending') return data;
  const save = data.standbySave ?? (await planSave(parts, data, workspace));
  if (save === null) return data;
  if (save.outcome === 'pending') await context.save({ ...data, standbySave: save });
  const ended = save.outcome === 'pending' ? await carryOut(parts, context, { workspace, save }) : save;
  await forbidStandbySave(parts.db, workspace.id);
  const saved = { ...data, standbySave: ended };
  await context.save(saved);
  await report(parts, context, ended);
  return saved;
}

async function planSave(
  parts: OperationParts,
  data: SaveData,
  { standbyInstanceId, headSnapshotId }: WorkspaceRow,
): Promise<StandbySave | null> {
  const { fromInstanceId } = data;
  // After an orderly hand-over the head is the newest there is.
  if (standbyInstanceId === null || fromInstanceId === null || data.handedOver) return null;
  const standby = await findInstance(parts.db, standbyInstanceId);
  const lag = parts.standbyLag(fromInstanceId) ?? data.standbyLag;
  const head = headSnapshotId === null ? undefined : await findSnapshot(parts.db, headSnapshotId);
  const reason = objectionTo({
    isConnected: parts.hub.isConnected(standbyInstanceId),
    lag,
    standbyReadyAtMs: standby?.readyAtMs ?? Infinity,
    head,
  });
  return {
    instanceId: standbyInstanceId,
    outcome: reason === null ? 'pending' : 'failed',
    commandId: newId('command'),
    parentSnapshotId: headSnapshotId,
    snapshotId: null,
    savedMs: null,
    savedBytes: null,
    behindMs: lag?.ms ?? 0,
    behindBytes: lag?.bytes ?? 0,
    tookMs: null,
    reason,
  };
}

/** Why a standby's folder must not become the head; null when it may. Pure. Only what is known to be newer counts. */
export function objectionTo(facts: {
  readonly isConnected: boolean;
  readonly lag: StandbyLag | null | undefined;
  readonly standbyReadyAtMs: number;
  readonly head: Pick<SnapshotRow, 'committedAtMs' | 'record'> | undefined;
}): string | null {
  const { isConnected, lag, standbyReadyAtMs, head } = facts;
  if (!isConnected) return 'the standby is not connected';
  // A beat from before this standby joined speaks of another.
  if (lag === null || lag === undefined || lag.atMs <= standbyReadyAtMs) {
    return 'nobody knows whether the standby had everything';
  }
  if (head !== undefined && lag.atMs - lag.ms <= heldSinceMs(head)) return 'the last snapshot is newer';
  return null;
}

/** Everything written before is in the snapshot, by our own clock: those of machines may be wrong. */
function heldSinceMs({ committedAtMs, record }: Pick<SnapshotRow, 'committedAtMs' | 'record'>): number {
  return committedAtMs - record.createMs;
}

async function carryOut<Data extends SaveData>(
  parts: OperationParts,
  context: StepContext<Data>,
  order: Order,
): Promise<StandbySave> {
  const { workspace, save } = order;
  const { instanceId, commandId } = save;
  const startMs = parts.clock.monotonicMs();
  const parent = save.parentSnapshotId === null ? undefined : await findSnapshot(parts.db, save.parentSnapshotId);
  const timeoutMs = SAVE_BASE_MS + Math.ceil((parent?.record.totalBytes ?? 0) / SAVE_BYTES_PER_MS);
  try {
    if ((await savedHead(parts, order)) === undefined) {
      const { epoch } = workspace;
      const isPermitted = await permitStandbySave(parts.db, workspace.id, { instanceId, epoch });
      if (!isPermitted) return { ...save, outcome: 'failed', reason: 'the workspace has moved on' };
      // It hears that nobody is primary, receives nothing more, and only then is asked.
      await parts.wardship.inform(instanceId);
      await runOnMachine(
        parts,
        instanceId,
        { name: 'snapshot' },
        { commandId: commandId ?? newId('command'), timeoutMs, signal: context.signal },
      );
    }
  } catch (error) {
    if (context.signal.aborted) throw error;
    // Its commit may have come through although its answer did not: the database knows.
    if ((await savedHead(parts, order)) === undefined) {
      return { ...save, outcome: 'failed', reason: toDumontError(error).message };
    }
  }
  const tookMs = parts.clock.monotonicMs() - startMs;
  const head = await savedHead(parts, order);
  if (head === undefined) return { ...save, outcome: 'nothing-newer', tookMs };
  const heldUntilMs = context.data.silenceBeganAtMs - save.behindMs;
  const savedMs = parent === undefined ? null : Math.max(0, heldUntilMs - heldSinceMs(parent));
  return { ...save, outcome: 'saved', snapshotId: head.id, savedMs, savedBytes: head.record.newBytes, tookMs };
}

type Order = { readonly workspace: WorkspaceRow; readonly save: StandbySave };

/** The head, where it is the standby's doing at this epoch. */
async function savedHead({ db }: OperationParts, { workspace, save }: Order): Promise<SnapshotRow | undefined> {
  const headId = (await findWorkspace(db, workspace.id))?.headSnapshotId ?? null;
  const head = headId === null ? undefined : await findSnapshot(db, headId);
  return head?.instanceId === save.instanceId && head.epoch === workspace.epoch ? head : undefined;
}

async function report(
  parts: OperationParts,
  { workspaceId, operationId }: Pick<StepContext<unknown>, 'workspaceId' | 'operationId'>,
  save: StandbySave,
): Promise<void> {
  const { instanceId, outcome, savedMs, savedBytes, behindMs, reason } = save;
  await appendEvent(parts.db, {
    type: outcome === 'saved' ? 'standby.saved' : 'standby.not-saved',
    atMs: parts.clock.nowMs(),
    workspaceId,
    instanceId,
    operationId,
    data: { outcome, savedMs, savedBytes, behindMs, ...(reason !== null && { reason }) },
  });
  parts.onChange();
}
