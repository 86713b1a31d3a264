import type { FailoverReport } from '@dumont/shared/api/failover-report.ts';
import type { StepView } from '@dumont/shared/api/views.ts';
import type { FailoverState } from '@dumont/shared/model/failover.ts';
import { FAILOVER_STATES, isFailoverOver } from '@dumont/shared/model/failover.ts';
import type { InstanceId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { costMicroUsd } from '@dumont/shared/model/money.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { branchesOfOperation } from '../store/branches.ts';
import type { Queryable } from '../store/database.ts';
import { gatewayAnsweredAt } from '../store/gateways.ts';
import type { InstanceRow } from '../store/instances.ts';
import { findInstance, listByOperation } from '../store/instances.ts';
import { findLedger } from '../store/ledger.ts';
import type { OperationRow } from '../store/operations.ts';
import { findOperation } from '../store/operations.ts';
import type { SnapshotRow } from '../store/snapshots.ts';
import { findSnapshot } from '../store/snapshots.ts';
import { listSteps } from '../store/steps.ts';
import type { ReturnData, TakeoverRow } from '../store/takeovers.ts';
import { findReturn, findTakeover, findUnusedStandby } from '../store/takeovers.ts';
import type { WorkspaceRow } from '../store/workspaces.ts';
import { findWorkspace } from '../store/workspaces.ts';
import { placementOf } from './choose-offers.ts';
import type { FailoverData } from './failover.ts';
import { failoverDataSchema } from './failover.ts';

/** The report of one failover, finished or not, from its stored steps. @throws {DumontError} NOT_FOUND */
export async function buildFailoverReport(db: Queryable, failoverId: string, nowMs: number): Promise<FailoverReport> {
  const operation = await findOperation(db, failoverId);
  if (operation === undefined || operation.kind !== 'failover' || operation.workspaceId === null) {
    throw new DumontError('NOT_FOUND', `failover ${failoverId} does not exist`, { field: 'failoverId' });
  }
  const data = failoverDataSchema.parse(operation.data);
  const state = stateOf(operation);
  const workspace = await findWorkspace(db, operation.workspaceId);
  const steps = await listSteps(db, failoverId);
  const rented = await listByOperation(db, operation.id);
  const to = rented.find(({ id }) => id === data.replacement?.instanceId);
  const losers = rented.filter(({ id }) => id !== to?.id);
  const from = data.fromInstanceId === null ? undefined : await findInstance(db, data.fromInstanceId);
  const snapshot = data.restoredSnapshotId === null ? undefined : await findSnapshot(db, data.restoredSnapshotId);
  const { fromInstanceId } = data;
  const takeover = await findTakeover(db, {
    workspaceId: operation.workspaceId,
    operationId: operation.id,
    fromInstanceId,
  });
  const standby = await standbyOf(db, { operation, data, workspace, takeover });
  const switchedAtMs = steps.findLast(({ step, outcome }) => step === 'switching' && outcome === 'switched')?.endedAtMs;
  const rpoMs = rpoOf({
    state,
    data,
    standby,
    startedAtMs: snapshot?.record.startedAtMs ?? null,
    lostAtMs: from?.lostAtMs ?? null,
  });
  return {
    failoverId: operation.id,
    workspaceId: operation.workspaceId,
    workspaceName: workspace?.name ?? operation.workspaceId,
    state,
    success: isFailoverOver(state) ? state === 'completed' && data.workloadError === null : null,
    trigger: data.trigger,
    reason: data.reason,
    evidence: data.evidence,
    silenceBeganAtMs: data.silenceBeganAtMs,
    detectMs: round(data.detectMs),
    phases: phasesOf(steps, data),
    totalMs: switchedAtMs === undefined || switchedAtMs === null ? null : switchedAtMs - data.silenceBeganAtMs,
    gatewayMs: await gatewayMsOf(db, operation.workspaceId, data),
    rpoMs,
    rpoBytes: rpoMs === 0 ? 0 : standby?.isOurs === true ? (data.standbyLag?.bytes ?? null) : null,
    standby: standby === null ? null : standby.view,
    branches: await branchesOf(db, failoverId),
    epoch: data.epoch,
    from: from === undefined ? null : machineOf(from),
    to: to === undefined ? null : machineOf(to),
    snapshot: snapshot === undefined ? null : snapshotOf(snapshot),
    restore: data.restore,
    check: data.check,
    workloadResumedAtMs: data.workloadResumedAtMs,
    attempts: data.attempts + (data.replacement === null ? 0 : 1),
    placement: to === undefined ? null : placementOf(steps, to.offer),
    loserInstanceIds: losers.map(({ id }) => id),
    loserCostMicroUsd: await costOf(db, losers, operation.finishedAtMs ?? nowMs),
    costMicroUsd: await costOf(db, rented, operation.finishedAtMs ?? nowMs),
    startedAtMs: operation.createdAtMs,
    finishedAtMs: operation.finishedAtMs,
    // What failed on the way of a failover that came through is told by its steps.
    error: state === 'completed' ? data.workloadError : operation.error,
  };
}

async function branchesOf(db: Queryable, failoverId: string): Promise<FailoverReport['branches']> {
  const rows = await branchesOfOperation(db, failoverId);
  return rows.map(({ id: branchId, instanceId, state, summary }) => {
    const { addedCount, changedCount, deletedCount, changedBytes } = summary;
    return { branchId, instanceId, state, addedCount, changedCount, deletedCount, changedBytes };
  });
}

/** Commit → first answer through the gateway; null while there is none. */
async function gatewayMsOf(
  db: Queryable,
  workspaceId: WorkspaceId,
  { epoch, committedAtMs }: { readonly epoch: number | null; readonly committedAtMs: number | null },
): Promise<number | null> {
  if (epoch === null || committedAtMs === null) return null;
  const answeredAtMs = await gatewayAnsweredAt(db, workspaceId, epoch);
  return answeredAtMs === undefined ? null : Math.max(0, answeredAtMs - committedAtMs);
}

interface StandbyPart {
  readonly view: NonNullable<FailoverReport['standby']>;
  /** When a standby that served was lost, wall ms. */
  readonly lostAtMs: number | null;
  /** It was made primary in this very failover. */
  readonly isOurs: boolean;
}

/** What a failover's standby did; null without one. */
async function standbyOf(
  db: Queryable,
  facts: {
    readonly operation: OperationRow;
    readonly data: FailoverData;
    readonly workspace: WorkspaceRow | undefined;
    readonly takeover: TakeoverRow | undefined;
  },
): Promise<StandbyPart | null> {
  const { operation, data, workspace, takeover } = facts;
  const workspaceId = must(operation.workspaceId, 'a failover is of a workspace');
  const nothing = { takeoverMs: null, gatewayMs: null, servedMs: null, behindMs: null, pauseMs: null };
  if (takeover === undefined) {
    const unused = await findUnusedStandby(db, workspaceId, operation.id);
    if (unused === undefined) return null;
    const { standbyId: instanceId, reason } = unused;
    return { view: { ...nothing, instanceId, outcome: 'not-used', reason }, lostAtMs: null, isOurs: false };
  }
  const { standbyId: instanceId, epoch, atMs: committedAtMs, behindMs } = takeover;
  const back = await findReturn(db, workspaceId, instanceId);
  const isOurs = takeover.operationId === operation.id;
  const outcome = outcomeOf({ back, isPrimary: workspace?.primaryInstanceId === instanceId, data, instanceId });
  const lostAtMs = outcome === 'lost' ? ((await findInstance(db, instanceId))?.lostAtMs ?? null) : null;
  const servedUntilMs = lostAtMs ?? data.pausedAtMs;
  const servedMs =
    back?.servedMs ?? (outcome === 'serves' || servedUntilMs === null ? null : servedUntilMs - committedAtMs);
  return {
    view: {
      instanceId,
      outcome,
      reason: null,
      takeoverMs: isOurs ? Math.max(0, committedAtMs - data.silenceBeganAtMs) : null,
      gatewayMs: isOurs ? await gatewayMsOf(db, workspaceId, { epoch, committedAtMs }) : null,
      servedMs: servedMs === null ? null : Math.max(0, servedMs),
      behindMs: isOurs ? round(behindMs) : null,
      pauseMs: back?.pauseMs ?? null,
    },
    lostAtMs,
    isOurs,
  };
}

function outcomeOf(facts: {
  readonly back: ReturnData | undefined;
  readonly isPrimary: boolean;
  readonly data: FailoverData;
  readonly instanceId: InstanceId;
}): 'serves' | 'handed-over' | 'lost' {
  const { back, isPrimary, data, instanceId } = facts;
  if (isPrimary) return 'serves';
  const isHandedOver = back?.handedOver ?? data.handedOverId === instanceId;
  return isHandedOver ? 'handed-over' : 'lost';
}

/**
 * What was lost, as a time. Without a machine nothing was being written; one that said all was saved lost nothing, however
 * old its snapshot.
 */
function rpoOf(facts: {
  readonly state: FailoverState;
  readonly data: FailoverData;
  readonly standby: StandbyPart | null;
  readonly startedAtMs: number | null;
  readonly lostAtMs: number | null;
}): number | null {
  const { state, data, standby, startedAtMs, lostAtMs } = facts;
  const { trigger, fromInstanceId, savedAtMs, silenceBeganAtMs } = data;
  const behindMs = standby?.view.behindMs ?? null;
  // With a standby lost as well, what was written there since the restored snapshot is lost too.
  const lostThereMs =
    standby === null || standby.lostAtMs === null || startedAtMs === null ? 0 : standby.lostAtMs - startedAtMs;
  if (behindMs !== null) return round(Math.max(behindMs, lostThereMs));
  if (state === 'averted') return 0;
  if (startedAtMs === null) return null;
  if (fromInstanceId === null) return 0;
  // One that was to be left in good order went on working until it was lost.
  const endMs = trigger === 'detector' || savedAtMs !== null ? silenceBeganAtMs : (lostAtMs ?? silenceBeganAtMs);
  return Math.max(0, endMs - Math.max(startedAtMs, savedAtMs ?? 0), lostThereMs);
}

const PHASE_STEPS = {
  searchMs: 'searching',
  provisionMs: 'provisioning',
  restoreMs: 'restoring',
  commitMs: 'committing',
  resumeMs: 'resuming',
  switchMs: 'switching',
  releaseMs: 'releasing',
} as const;

function phasesOf(steps: readonly StepView[], data: FailoverData): FailoverReport['phases'] {
  const total = (step: string) => {
    const durations = steps.filter((row) => row.step === step && row.durationMs !== null);
    return durations.length === 0 ? null : round(durations.reduce((sum, row) => sum + (row.durationMs ?? 0), 0));
  };
  return {
    detectMs: round(data.detectMs),
    searchMs: total(PHASE_STEPS.searchMs),
    provisionMs: total(PHASE_STEPS.provisionMs),
    restoreMs: total(PHASE_STEPS.restoreMs),
    commitMs: total(PHASE_STEPS.commitMs),
    resumeMs: total(PHASE_STEPS.resumeMs),
    switchMs: total(PHASE_STEPS.switchMs),
    releaseMs: total(PHASE_STEPS.releaseMs),
  };
}

function machineOf({ id, offer }: InstanceRow): NonNullable<FailoverReport['to']> {
  const { provider, machineId, gpuName, region, priceMicroUsdPerHour } = offer;
  return { instanceId: id, provider, machineId, gpuName, region, priceMicroUsdPerHour };
}

function snapshotOf({ seq, storage, committedAtMs, record }: SnapshotRow): NonNullable<FailoverReport['snapshot']> {
  const { snapshotId, totalBytes, newBytes, storedBytes, createMs, startedAtMs } = record;
  const compressionRatio = newBytes === 0 || storedBytes === 0 ? null : newBytes / storedBytes;
  return {
    snapshotId,
    seq,
    totalBytes,
    newBytes,
    storedBytes,
    compressionRatio,
    storage,
    createMs,
    startedAtMs,
    committedAtMs,
  };
}

/** What the machines of this failover cost until it ended; the winner goes on costing after that. */
async function costOf(db: Queryable, rented: readonly InstanceRow[], endMs: number): Promise<number> {
  let sum = 0;
  for (const { id } of rented) {
    const row = await findLedger(db, id);
    if (row === undefined || row.rentedAtMs === null) continue;
    sum += costMicroUsd(row.priceMicroUsdPerHour, Math.min(row.goneAtMs ?? endMs, endMs) - row.rentedAtMs);
  }
  return sum;
}

function stateOf({ state }: OperationRow): FailoverState {
  const known = FAILOVER_STATES.find((name) => name === state);
  if (known === undefined) throw new DumontError('INTERNAL', `failover has the unknown state ${state}`);
  return known;
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10;
}
