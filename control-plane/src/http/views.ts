import type { DetectionView } from '@dumont/shared/api/detection.ts';
import type {
  BranchView,
  InstanceView,
  LedgerView,
  OperationSummary,
  SnapshotView,
  WorkspaceView,
} from '@dumont/shared/api/views.ts';
import type { OperationId } from '@dumont/shared/model/ids.ts';
import type { AgentRole } from '@dumont/shared/model/instance.ts';
import { costMicroUsd } from '@dumont/shared/model/money.ts';
import type { BranchRow } from '../store/branches.ts';
import type { DetectionRow } from '../store/detection.ts';
import type { InstanceRow } from '../store/instances.ts';
import type { LedgerRow } from '../store/ledger.ts';
import type { Rental } from '../store/lookups.ts';
import type { OperationRow } from '../store/operations.ts';
import type { SnapshotRow } from '../store/snapshots.ts';
import type { WorkspaceRow } from '../store/workspaces.ts';
import { standingOf } from '../workspaces/standing.ts';
import type { FleetView } from './services.ts';

/** Rows as the API shows them. Pure, given the live facts. */

export function workspaceView(
  row: WorkspaceRow,
  facts: {
    readonly headCommittedAtMs: number | null;
    readonly movedBy: OperationId | null;
    readonly gateway: WorkspaceView['gateway'];
    /** Its standby's row; undefined without one. */
    readonly standby: InstanceRow | undefined;
    /** Role of its primary; null without one. */
    readonly servedBy: AgentRole | null;
    readonly fleet: FleetView;
  },
): WorkspaceView {
  return {
    workspaceId: row.id,
    name: row.name,
    epoch: row.epoch,
    primaryInstanceId: row.primaryInstanceId,
    endpointInstanceId: row.endpointInstanceId,
    servedBy: facts.servedBy,
    headSnapshotId: row.headSnapshotId,
    headCommittedAtMs: facts.headCommittedAtMs,
    operationId: facts.movedBy,
    gateway: facts.gateway,
    standby: facts.standby === undefined ? null : standbyOf(row, facts.standby, facts.fleet),
    policy: row.policy,
    createdAtMs: row.createdAtMs,
  };
}

function standbyOf(
  { primaryInstanceId }: WorkspaceRow,
  { id: instanceId, state }: InstanceRow,
  fleet: FleetView,
): WorkspaceView['standby'] {
  const isHeard = primaryInstanceId !== null && fleet.isConnected(primaryInstanceId);
  const beat = isHeard ? fleet.lastBeat(primaryInstanceId) : undefined;
  const { standbyBehindBytes: behindBytes = null, standbyBehindMs: behindMs = null } = beat ?? {};
  return { instanceId, state, behindBytes, behindMs };
}

export function instanceView(
  row: InstanceRow,
  facts: {
    readonly workspace: WorkspaceRow;
    readonly movedBy: OperationId | null;
    /** An unfinished test rented it. */
    readonly isOnTest: boolean;
    /** Null before the provider was asked. */
    readonly rental: Rental | null;
    readonly fleet: FleetView;
    readonly nowMs: number;
  },
): InstanceView {
  const isConnected = facts.fleet.isConnected(row.id);
  // The last beat of a machine that is no longer connected says nothing about now.
  const beat = isConnected ? facts.fleet.lastBeat(row.id) : undefined;
  return {
    instanceId: row.id,
    workspaceId: row.workspaceId,
    workspaceName: facts.workspace.name,
    role: row.role,
    state: row.state,
    standing: standingOf({ ...facts, instance: row }),
    connected: isConnected,
    liveness: facts.fleet.liveness(row.id),
    workload: beat?.workload ?? null,
    unsavedMs: beat?.unsavedMs ?? null,
    unsavedBytes: beat?.unsavedBytes ?? null,
    provider: row.offer.provider,
    providerRef: row.providerRef,
    machineId: row.offer.machineId,
    gpuName: row.offer.gpuName,
    region: row.offer.region,
    priceMicroUsdPerHour: facts.rental?.priceMicroUsdPerHour ?? row.offer.priceMicroUsdPerHour,
    costMicroUsd: facts.rental === null ? 0 : rentalCostMicroUsd(facts.rental, facts.nowMs),
    requestedAtMs: row.requestedAtMs,
    readyAtMs: row.readyAtMs,
    goneAtMs: row.goneAtMs,
  };
}

export function snapshotView(row: SnapshotRow, workspace: WorkspaceRow): SnapshotView {
  return {
    ...row.record,
    workspaceId: row.workspaceId,
    seq: row.seq,
    epoch: row.epoch,
    instanceId: row.instanceId,
    storage: row.storage,
    committedAtMs: row.committedAtMs,
    isHead: workspace.headSnapshotId === row.id,
  };
}

export function branchView(row: BranchRow, workspace: Pick<WorkspaceRow, 'name'>): BranchView {
  const { addedCount, changedCount, deletedCount, changedBytes } = row.summary;
  return {
    branchId: row.id,
    workspaceId: row.workspaceId,
    workspaceName: workspace.name,
    instanceId: row.instanceId,
    epoch: row.epoch,
    baseSnapshotId: row.baseSnapshotId,
    snapshotId: row.record.snapshotId,
    state: row.state,
    addedCount,
    changedCount,
    deletedCount,
    changedBytes,
    createdAtMs: row.createdAtMs,
    expiresAtMs: row.expiresAtMs,
    mergedAtMs: row.mergedAtMs,
    deletedAtMs: row.deletedAtMs,
  };
}

export function operationSummary(row: OperationRow): OperationSummary {
  return {
    operationId: row.id,
    kind: row.kind,
    workspaceId: row.workspaceId,
    state: row.state,
    finished: row.finishedAtMs !== null,
    error: row.error,
    createdAtMs: row.createdAtMs,
    updatedAtMs: row.updatedAtMs,
    finishedAtMs: row.finishedAtMs,
  };
}

export function detectionView(row: DetectionRow): DetectionView {
  const { provider, machineId, instanceId, watchedMs, suspects, mistakes, mistakeMs, averted, losses, returned } = row;
  const isTelling = watchedMs >= TELLING_MS;
  return {
    provider,
    machineId,
    instanceId,
    watchedMs,
    suspects,
    mistakes,
    mistakesPerMonth: isTelling ? (mistakes * MONTH_MS) / watchedMs : null,
    mistakeMs: mistakes === 0 ? null : mistakeMs / mistakes,
    queryAccuracy: isTelling ? Math.max(0, 1 - mistakeMs / watchedMs) : null,
    averted,
    avertedMicroUsd: row.avertedMicroUsd,
    losses,
    returned,
    detectMs: losses === 0 ? null : row.detectMs / losses,
    detectMaxMs: losses === 0 ? null : row.detectMaxMs,
  };
}

const MONTH_MS = 30 * 86_400_000;
/** One mistake in a minute of watching is no rate. */
const TELLING_MS = 3_600_000;

export function ledgerView(row: LedgerRow, nowMs: number): LedgerView {
  return {
    instanceId: row.instanceId,
    provider: row.provider,
    label: row.label,
    providerRef: row.providerRef,
    priceMicroUsdPerHour: row.priceMicroUsdPerHour,
    costMicroUsd: rentalCostMicroUsd(row, nowMs),
    requestedAtMs: row.requestedAtMs,
    rentedAtMs: row.rentedAtMs,
    releaseAskedAtMs: row.releaseAskedAtMs,
    goneConfirmations: row.goneConfirmations,
    goneAtMs: row.goneAtMs,
    outcome: row.outcome,
  };
}

/** From the provider's yes until proven gone, or now: what is not proven gone is counted as billed. */
function rentalCostMicroUsd(rental: Rental, nowMs: number): number {
  if (rental.rentedAtMs === null) return 0;
  return costMicroUsd(rental.priceMicroUsdPerHour, (rental.goneAtMs ?? nowMs) - rental.rentedAtMs);
}
