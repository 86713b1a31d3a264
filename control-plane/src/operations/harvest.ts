import type { InstanceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import type { BranchSummary } from '@dumont/shared/protocol/branch.ts';
import type { ActionResult } from '@dumont/shared/protocol/command.ts';
import type { SnapshotRecord } from '@dumont/shared/protocol/snapshot-record.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import { commitBranch } from '../store/branches.ts';
import { appendEvent } from '../store/events.ts';
import type { HarvestOutcome, HarvestRow } from '../store/harvests.ts';
import { closeHarvest, findHarvest, openHarvest } from '../store/harvests.ts';
import { findInstance } from '../store/instances.ts';
import { findSnapshot } from '../store/snapshots.ts';
import { refOf } from '../workspaces/assignments.ts';
import { workspaceOf } from './move-steps.ts';
import { runOnMachine } from './on-machine.ts';
import type { StepContext } from './operation-kind.ts';
import type { OperationParts } from './operation-parts.ts';

/** For a small workspace; each byte adds to it. A machine that bills is not kept for longer than its files are worth. */
const HARVEST_BASE_MS = 60_000;
/** The machine reads its whole folder, at this rate on a slow disk, bytes per millisecond. */
const HARVEST_BYTES_PER_MS = 100_000;
/** However large the workspace is. */
const MAX_HARVEST_MS = 1_800_000;
/** How often a silent machine, and the one that serves, are looked at. */
const POLL_MS = 250;

/** What became of the files a fenced machine had not published; kept with the step. */
export interface HarvestNote {
  readonly instanceId: InstanceId;
  readonly outcome: HarvestOutcome;
  readonly branchId: string | null;
  readonly reason: string | null;
}

type HarvestContext = Pick<StepContext<unknown>, 'operationId' | 'workspaceId' | 'signal'>;

/**
 * Before a fenced machine is destroyed: has it store what it held and never published, and commits that as a branch,
 * where the policy wants it and the machine answers (or comes back within `branches.waitMs`). Bounded in time; whatever
 * goes wrong, the machine is destroyed all the same, and an event says what was lost with it. Ends at once when the
 * machine in `keep` is lost: its successor comes first. Idempotent: an earlier run's outcome is not asked for again.
 * @returns null when there was nobody to ask
 */
export async function harvestFenced(
  parts: OperationParts,
  context: HarvestContext,
  target: { readonly instanceId: InstanceId; readonly keep: InstanceId | null },
): Promise<HarvestNote | null> {
  const { instanceId } = target;
  const { policy } = await workspaceOf(parts, context.workspaceId);
  const { harvest: isWanted, waitMs, keepMs } = policy.branches;
  if (!isWanted) return null;
  const { operationId } = context;
  // One that says nothing is not begun with; what an earlier run of this step began is ended.
  const isHopeless = waitMs === 0 && !isReachable(parts, instanceId);
  const order = { instanceId, operationId, commandId: newId('command'), atMs: parts.clock.nowMs() };
  const permit = isHopeless
    ? await findHarvest(parts.db, instanceId)
    : await parts.db.transaction((tx) => openHarvest(tx, order));
  if (permit === undefined) return null;
  if (permit.outcome !== null) return noteOf(instanceId, permit.outcome, permit.reason);
  await parts.wardship.inform(instanceId);
  const note = await underPermit(parts, context, { ...target, permit, waitMs, keepMs });
  if (note.outcome !== 'harvested') await close(parts, permit, note);
  // What it was given for this ends.
  await parts.wardship.inform(instanceId);
  return note;
}

interface Permitted {
  readonly instanceId: InstanceId;
  readonly keep: InstanceId | null;
  readonly permit: HarvestRow;
  readonly waitMs: number;
  readonly keepMs: number;
}

async function underPermit(parts: OperationParts, context: HarvestContext, order: Permitted): Promise<HarvestNote> {
  const { instanceId, permit, keepMs } = order;
  const answer = await answerOf(parts, context, order);
  if (typeof answer === 'string') return noteOf(instanceId, 'failed', answer);
  const { record, summary } = answer;
  if (record === null || summary === null || !holdsAnything(summary)) return noteOf(instanceId, 'nothing-late', null);
  const { epoch, workspaceId } = permit;
  const atMs = parts.clock.nowMs();
  const outcome = await commitBranch(parts.db, { workspaceId, instanceId, epoch, record, summary, atMs, keepMs });
  if (outcome.kind === 'refused') return noteOf(instanceId, 'failed', outcome.reason);
  parts.onChange();
  return { ...noteOf(instanceId, 'harvested', null), branchId: outcome.branch.id };
}

type Answer = Extract<ActionResult, { name: 'harvest' }>;

/** What the machine stored, or why it did not. */
async function answerOf(
  parts: OperationParts,
  { signal }: HarvestContext,
  { instanceId, keep, permit, waitMs }: Permitted,
): Promise<Answer | string> {
  const over = new AbortController();
  const done = new AbortController();
  const watching = watchKept(parts, keep, over, AbortSignal.any([signal, done.signal]));
  const bounded = AbortSignal.any([signal, over.signal]);
  try {
    await untilReachable(parts, { instanceId, untilMs: permit.openedAtMs + waitMs, signal: bounded });
    return await askFor(parts, { permit, signal: bounded });
  } catch (error) {
    if (signal.aborted) throw error;
    return over.signal.aborted ? 'its successor was lost meanwhile' : toDumontError(error).message;
  } finally {
    done.abort();
    await watching;
  }
}

async function askFor(
  parts: OperationParts,
  { permit, signal }: { readonly permit: HarvestRow; readonly signal: AbortSignal },
): Promise<Answer> {
  const { instanceId, epoch, commandId, baseSnapshotId } = permit;
  const base = baseSnapshotId === null ? undefined : await findSnapshot(parts.db, baseSnapshotId);
  const timeoutMs = harvestTimeoutMs(base?.record);
  const action = { name: 'harvest', epoch, base: base === undefined ? null : refOf(base) } as const;
  return runOnMachine(parts, instanceId, action, { commandId, timeoutMs, signal });
}

/** Times alone are nothing that was lost. */
function holdsAnything({ addedCount, changedCount, deletedCount }: BranchSummary): boolean {
  return addedCount + changedCount + deletedCount > 0;
}

/** Pure. */
function harvestTimeoutMs(base: Pick<SnapshotRecord, 'totalBytes'> | undefined): number {
  return Math.min(MAX_HARVEST_MS, HARVEST_BASE_MS + Math.ceil((base?.totalBytes ?? 0) / HARVEST_BYTES_PER_MS));
}

/** Connected, and heard a moment ago: a machine that is cut off stays connected for a while. */
function isReachable({ hub, clock, limits }: OperationParts, instanceId: InstanceId): boolean {
  const heardAtMs = hub.isConnected(instanceId) ? hub.heardAtMonotonicMs(instanceId) : null;
  return heardAtMs !== null && clock.monotonicMs() - heardAtMs <= limits.contactLossMs;
}

/** @throws {DumontError} UNAVAILABLE when it says nothing in time */
async function untilReachable(
  parts: OperationParts,
  wait: { readonly instanceId: InstanceId; readonly untilMs: number; readonly signal: AbortSignal },
): Promise<void> {
  const { instanceId, untilMs, signal } = wait;
  while (!isReachable(parts, instanceId)) {
    if (parts.clock.nowMs() >= untilMs) throw new DumontError('UNAVAILABLE', 'the machine did not come back');
    await parts.clock.sleep(POLL_MS, signal);
  }
}

async function watchKept(
  { db, clock }: OperationParts,
  keep: InstanceId | null,
  over: AbortController,
  signal: AbortSignal,
): Promise<void> {
  if (keep === null) return;
  while (!signal.aborted && !over.signal.aborted) {
    // What the database does not answer now it answers in the next round.
    const kept = await findInstance(db, keep).catch(() => undefined);
    if (kept?.state === 'lost') over.abort(new DumontError('ABORTED', `${keep} was lost`));
    await clock.sleep(POLL_MS, signal).catch(() => {});
  }
}

async function close(parts: OperationParts, permit: HarvestRow, { outcome, reason }: HarvestNote): Promise<void> {
  const atMs = parts.clock.nowMs();
  const { instanceId, workspaceId, operationId } = permit;
  await parts.db.transaction(async (tx) => {
    if (!(await closeHarvest(tx, permit, { outcome, reason, atMs }))) return;
    const data = { outcome, ...(reason !== null && { reason }) };
    await appendEvent(tx, { type: 'branch.not-harvested', atMs, workspaceId, instanceId, operationId, data });
  });
  parts.onChange();
}

function noteOf(instanceId: InstanceId, outcome: HarvestOutcome, reason: string | null): HarvestNote {
  return { instanceId, outcome, branchId: null, reason };
}
