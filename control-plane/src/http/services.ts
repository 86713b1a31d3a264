import type { MergeBranchBody } from '@dumont/shared/api/branch-endpoints.ts';
import type { AddMachineBody, LossKind, ProvisionBody } from '@dumont/shared/api/endpoints.ts';
import type { FailoverReport } from '@dumont/shared/api/failover-report.ts';
import type { Simulation } from '@dumont/shared/api/simulation.ts';
import type { FailoverTestBody, ProviderTestBody } from '@dumont/shared/api/test-endpoints.ts';
import type { TestReport } from '@dumont/shared/api/test-report.ts';
import type { EventView, InstanceView, WorkspaceView } from '@dumont/shared/api/views.ts';
import type { BranchId, InstanceId, OperationId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { MergeResult } from '@dumont/shared/protocol/branch.ts';
import type { Heartbeat } from '@dumont/shared/protocol/heartbeat.ts';
import type { SignAnswer, StoreRequest } from '@dumont/shared/protocol/signed-request.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { AgentFacts } from '../upgrades/agent-facts.ts';
import type { BranchRow } from '../store/branches.ts';
import type { Database } from '../store/database.ts';
import type { SnapshotRow } from '../store/snapshots.ts';
import type { AgentUpgrades } from '../upgrades/agent-upgrades.ts';
import type { DownloadOptions } from './downloads.ts';
import type { WorkspaceRow } from '../store/workspaces.ts';

/** What the routes need of the control plane; `context.ts` builds it. */
export interface ApiServices {
  readonly db: Database;
  readonly clock: Clock;
  readonly log: Logger;
  readonly version: string;
  /** Bearer token that every endpoint with `auth` requires. */
  readonly apiToken: string;
  readonly fleet: FleetView;
  readonly upgrades: Pick<AgentUpgrades, 'newest' | 'state' | 'order'>;
  readonly operations: OperationStarter;
  readonly events: EventSource;
  /** Called after each commit of the routes' own that appended events. */
  onChange(): void;
  /** Under which machines reach this control plane; absent: the URL of each request. */
  readonly publicUrl: string | undefined;
  readonly downloads: Omit<DownloadOptions, 'publicUrl'>;
  readonly gateway: GatewayDesk;
  /** Takes and commits a snapshot of the workspace's primary; null when nothing changed. @throws CONFLICT without a connected primary */
  takeSnapshot(workspaceId: WorkspaceId, options: { readonly signal: AbortSignal }): Promise<SnapshotRow | null>;
  readonly branches: BranchDesk;
  readonly tests: TestDesk;
  /** @throws NOT_FOUND */
  failoverReport(failoverId: string): Promise<FailoverReport>;
  /** Signs a machine's requests to the object store. @throws UNAUTHORIZED for a stranger, or a key outside its workspace */
  signRequests(authorization: string | undefined, requests: readonly StoreRequest[]): Promise<SignAnswer>;
  /** Loses a machine on purpose. @throws UNSUPPORTED for providers other than local, NOT_FOUND */
  injectLoss(instanceId: InstanceId, kind: LossKind): Promise<void>;
}

/** Live facts that are not in the database. */
export interface FleetView {
  readonly connectedCount: number;
  isConnected(instanceId: InstanceId): boolean;
  liveness(instanceId: InstanceId): InstanceView['liveness'];
  lastBeat(instanceId: InstanceId): Heartbeat | undefined;
  /** Undefined while it is not connected. */
  agent(instanceId: InstanceId): AgentFacts | undefined;
}

/** Starts durable operations; each call returns as soon as the operation is written down. */
export interface OperationStarter {
  /** @throws CONFLICT when the name is taken */
  provision(body: ProvisionBody): Promise<{ readonly operationId: OperationId; readonly workspaceId: WorkspaceId }>;
  /** A workspace on a machine that its owner brings. @throws CONFLICT when the name is taken */
  addMachine(body: AddMachineBody): Promise<{
    readonly operationId: OperationId;
    readonly workspaceId: WorkspaceId;
    readonly instanceId: InstanceId;
    /** The only copy. */
    readonly enrolToken: string;
    readonly expiresAtMs: number;
  }>;
  /** @throws CONFLICT when another operation moves the workspace, or it has no primary */
  failover(workspaceId: WorkspaceId, reason: string): Promise<OperationId>;
  /** Destroys a machine, after a last snapshot when it is primary and `snapshotFirst`. @throws CONFLICT when it is already being released or its workspace is being moved */
  release(instanceId: InstanceId, options: { readonly snapshotFirst: boolean }): Promise<OperationId>;
}

/** Users' fixed addresses. */
export interface GatewayDesk {
  of(rows: readonly WorkspaceRow[]): Promise<ReadonlyMap<WorkspaceId, WorkspaceView['gateway']>>;
  /** A token for the HTTP address; `revoke` makes every earlier one worthless. */
  createToken(
    row: WorkspaceRow,
    options: { readonly validForMs: number; readonly revoke: boolean },
  ): Promise<{ readonly token: string; readonly expiresAtMs: number; readonly url: string | null }>;
}

/** Tests that rent machines, and the simulation that rents none. */
export interface TestDesk {
  /** @throws NOT_FOUND */
  simulate(workspaceId: WorkspaceId, options: { readonly signal: AbortSignal }): Promise<Simulation>;
  /** @throws CONFLICT while one of this workspace runs, USAGE for a model that nothing can serve */
  failover(workspace: WorkspaceRow, body: Pick<FailoverTestBody, 'model' | 'check'>): Promise<OperationId>;
  /** @throws USAGE for an unknown provider, CONFLICT with too many under way */
  provider(body: ProviderTestBody): Promise<OperationId>;
  /** @throws NOT_FOUND */
  report(testId: string): Promise<TestReport>;
  /** False when it is over, destroying already, or in another process's hands. */
  cancel(testId: string): Promise<boolean>;
}

/** What becomes of branches. */
export interface BranchDesk {
  /** Has the workspace's primary merge it. @throws CONFLICT for a deleted one, and without a connected primary */
  merge(
    branchId: BranchId,
    request: MergeBranchBody & { readonly signal: AbortSignal },
  ): Promise<{ readonly branch: BranchRow; readonly merge: MergeResult }>;
  /** Idempotent. */
  delete(branch: BranchRow): Promise<BranchRow>;
}

export interface EventSource {
  /** Events after an id as they appear, oldest first, until the signal aborts (then it returns normally). */
  stream(options: {
    readonly after: number;
    readonly workspaceId?: WorkspaceId | undefined;
    readonly signal: AbortSignal;
  }): AsyncIterable<EventView>;
}
