import type { Simulation } from '@dumont/shared/api/simulation.ts';
import type { InstanceId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { costMicroUsd } from '@dumont/shared/model/money.ts';
import type { Offer } from '@dumont/shared/model/offer.ts';
import { offerObjection, rankOffers } from '@dumont/shared/model/offer.ts';
import type { Heartbeat } from '@dumont/shared/protocol/heartbeat.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { findInstance } from '../store/instances.ts';
import type { SnapshotRow } from '../store/snapshots.ts';
import { findSnapshot } from '../store/snapshots.ts';
import type { WorkspaceRow } from '../store/workspaces.ts';
import { findWorkspace, moverOf } from '../store/workspaces.ts';
import { expectPhases } from './expected-phases.ts';
import { searchAll } from './move-steps.ts';
import type { OperationParts } from './operation-parts.ts';

const LISTED_OFFERS = 10;

export interface SimulationParts extends Pick<OperationParts, 'db' | 'clock' | 'providers'> {
  /** What is known of machines that is not in the database. */
  readonly fleet: {
    isConnected(instanceId: InstanceId): boolean;
    lastBeat(instanceId: InstanceId): Heartbeat | undefined;
  };
}

/**
 * What would happen if the workspace's primary were lost now. Asks the providers for their offers; rents nothing and
 * changes nothing.
 * @throws {DumontError} NOT_FOUND; the signal's reason
 */
export async function simulateFailover(
  parts: SimulationParts,
  workspaceId: WorkspaceId,
  { signal }: { readonly signal: AbortSignal },
): Promise<Simulation> {
  const { db, clock } = parts;
  const workspace = await findWorkspace(db, workspaceId);
  if (workspace === undefined) throw new DumontError('NOT_FOUND', `workspace ${workspaceId} does not exist`);
  const { policy } = workspace;
  const head = workspace.headSnapshotId === null ? undefined : await findSnapshot(db, workspace.headSnapshotId);
  const primary = primaryOf(parts, workspace);
  const standby = await standbyOf(parts, workspace);
  const market = await lookAtMarket(parts, workspace, signal);
  const phases = await expectPhases(db, { workspace, restoreBytes: head?.record.totalBytes ?? 0 });
  const machinesAtOnce = policy.strategy === 'race' ? Math.min(policy.raceWidth, market.ranked.length) : 1;
  const expectedTotalMs = phases.reduce((sum, { expectedMs }) => sum + expectedMs, 0);
  const rentedMs = phases.reduce(
    (sum, p) => sum + (p.phase === 'detect' || p.phase === 'search' ? 0 : p.expectedMs),
    0,
  );
  const blockers = [...market.blockers, ...(await moverBlocker(parts, workspaceId))];
  const winner = market.ranked[0];
  return {
    workspaceId,
    workspaceName: workspace.name,
    atMs: clock.nowMs(),
    possible: blockers.length === 0,
    blockers,
    warnings: [...market.warnings, ...warningsOf({ workspace, head, primary, standby })],
    strategy: policy.strategy,
    machinesAtOnce,
    offersSeen: market.seen,
    offersFitting: market.ranked.length,
    refusals: market.refusals,
    offers: market.ranked.slice(0, LISTED_OFFERS).map((offer, index) => ({
      rank: index + 1,
      offer,
      expectedMicroUsdPerHour: Math.round(offer.priceMicroUsdPerHour * (2 - offer.reliability)),
    })),
    phases,
    expectedTotalMs,
    loss: lossOf({ head, primary, standby, nowMs: clock.nowMs() }),
    snapshot:
      head === undefined
        ? null
        : { snapshotId: head.id, committedAtMs: head.committedAtMs, totalBytes: head.record.totalBytes },
    standby,
    primary: primary === null ? null : { ...primary, unsavedMs: primary.unsavedMs },
    expectedCostMicroUsd: market.ranked
      .slice(0, machinesAtOnce)
      .reduce((sum, offer) => sum + costMicroUsd(offer.priceMicroUsdPerHour, rentedMs), 0),
    priceMicroUsdPerHour: winner?.priceMicroUsdPerHour ?? null,
  };
}

interface Market {
  readonly seen: number;
  readonly ranked: readonly Offer[];
  readonly refusals: Simulation['refusals'];
  readonly blockers: readonly string[];
  readonly warnings: readonly string[];
}

async function lookAtMarket(parts: SimulationParts, workspace: WorkspaceRow, signal: AbortSignal): Promise<Market> {
  const { offers, failures } = await searchAll(parts, signal);
  const policy = workspace.policy.offers;
  const fitting = rankOffers(offers, policy);
  const primary =
    workspace.primaryInstanceId === null ? undefined : await findInstance(parts.db, workspace.primaryInstanceId);
  // As in a failover: the host that is being left comes last of all.
  const elsewhere = fitting.filter(({ machineId }) => machineId !== primary?.offer.machineId);
  const ranked = elsewhere.length > 0 ? elsewhere : fitting;
  const reasons = Map.groupBy(
    offers.flatMap((offer) => offerObjection(offer, policy) ?? []),
    (reason) => reason,
  );
  const refusals = [...reasons]
    .map(([reason, all]) => ({ reason, count: all.length }))
    .toSorted((a, b) => b.count - a.count);
  const [main] = refusals;
  const why = main === undefined ? '' : `; most are out because: ${main.reason}`;
  const nothing = `none of ${offers.length} offers fits the policy${why}`;
  return {
    seen: offers.length,
    ranked,
    refusals,
    blockers: ranked.length === 0 ? [`${nothing}. Raise the price cap, or allow more GPUs or regions.`] : [],
    warnings: failures.map((failure) => `a provider does not answer: ${failure}`),
  };
}

async function moverBlocker({ db }: SimulationParts, workspaceId: WorkspaceId): Promise<readonly string[]> {
  const mover = await moverOf(db, workspaceId);
  return mover === undefined ? [] : [`operation ${mover} moves the workspace already: a failover waits for its end.`];
}

type Primary = NonNullable<Simulation['primary']>;
type Standby = NonNullable<Simulation['standby']>;

function primaryOf({ fleet }: SimulationParts, { primaryInstanceId }: WorkspaceRow): Primary | null {
  if (primaryInstanceId === null) return null;
  const connected = fleet.isConnected(primaryInstanceId);
  const beat = connected ? fleet.lastBeat(primaryInstanceId) : undefined;
  return { instanceId: primaryInstanceId, connected, unsavedMs: beat?.unsavedMs ?? null };
}

async function standbyOf(
  { db, fleet }: SimulationParts,
  { standbyInstanceId, primaryInstanceId }: WorkspaceRow,
): Promise<Standby | null> {
  if (standbyInstanceId === null) return null;
  const row = await findInstance(db, standbyInstanceId);
  const isHeard = primaryInstanceId !== null && fleet.isConnected(primaryInstanceId);
  const behindMs = isHeard ? (fleet.lastBeat(primaryInstanceId)?.standbyBehindMs ?? null) : null;
  const connected = fleet.isConnected(standbyInstanceId);
  return { instanceId: standbyInstanceId, state: row?.state ?? 'unknown', connected, behindMs };
}

interface Facts {
  readonly head: SnapshotRow | undefined;
  readonly primary: Primary | null;
  readonly standby: Standby | null;
}

function warningsOf({ workspace, head, primary, standby }: Facts & { readonly workspace: WorkspaceRow }) {
  const warnings: string[] = [];
  if (primary === null) warnings.push('nobody is primary: there is no machine to lose.');
  else if (!primary.connected) warnings.push('the primary is not connected: what it holds unsaved is not known.');
  if (head === undefined) warnings.push('there is no snapshot: a new machine would begin with an empty folder.');
  if (workspace.policy.standby.enabled) {
    if (standby === null) warnings.push('there is no standby now, though the policy asks for one.');
    else if (!isUsable(standby)) warnings.push('the standby does not have everything yet, or is not connected.');
  }
  if (workspace.policy.workload === undefined) warnings.push('there is no workload to resume.');
  return warnings;
}

function isUsable({ connected, behindMs }: Standby): boolean {
  return connected && behindMs !== null;
}

/** What would be lost: what the standby lacks, else what is in no snapshot. */
function lossOf({ head, primary, standby, nowMs }: Facts & { readonly nowMs: number }): Simulation['loss'] {
  if (standby !== null && isUsable(standby)) return { ms: standby.behindMs ?? 0, bytes: null, from: 'standby' };
  if (head === undefined) return null;
  const ms = primary?.unsavedMs ?? Math.max(0, nowMs - head.record.startedAtMs);
  return { ms, bytes: null, from: 'snapshot' };
}
