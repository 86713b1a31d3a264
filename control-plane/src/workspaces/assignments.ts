import type { InstanceId, OperationId } from '@dumont/shared/model/ids.ts';
import type { AgentRole, Standing } from '@dumont/shared/model/instance.ts';
import { workloadOf } from '@dumont/shared/model/policy.ts';
import type { Assignment } from '@dumont/shared/protocol/hello.ts';
import type { SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { GrantSource } from '../storage/grant-book.ts';
import type { Queryable } from '../store/database.ts';
import { findInstance } from '../store/instances.ts';
import { testsUnderWay } from '../store/tests.ts';
import { isHarvestOpen } from '../store/harvests.ts';
import type { SnapshotRow } from '../store/snapshots.ts';
import { findSnapshot } from '../store/snapshots.ts';
import type { WorkspaceRow } from '../store/workspaces.ts';
import { findWorkspace, moverOf } from '../store/workspaces.ts';
import { standingOf } from './standing.ts';
import { chunkPartOf, syncPartOf, type StandbySync } from './standby-sync.ts';

/** Settings of every assignment that do not come from the database. */
export interface AssignmentSettings {
  readonly heartbeatIntervalMs: number;
  /** Age at which agents replace their credential, ms; absent: never. */
  readonly credentialRotateMs?: number;
  readonly storage: GrantSource;
  /** Absent: no workspace has a standby that is told of. */
  readonly standbySync?: StandbySync;
}

/** The workspace as this instance's agent must see it now; undefined for an unknown instance. */
export async function assignmentFor(
  db: Queryable,
  instanceId: InstanceId,
  settings: AssignmentSettings,
): Promise<Assignment | undefined> {
  const before = await currentStanding(db, instanceId);
  if (before === undefined) return undefined;
  const workspaceId = before.workspace.id;
  // It may take a while, so it comes first: an assignment read before it could undo a newer one.
  const grant = before.mayUseStore ? await settings.storage.grantFor({ workspaceId, instanceId }) : null;
  const { holderId } = before;
  const address = holderId === null ? null : ((await settings.standbySync?.locate(holderId)) ?? null);
  const now = await currentStanding(db, instanceId);
  if (now === undefined) return undefined;
  const { workspace, standing, role, movedBy } = now;
  const secret = settings.standbySync?.secret;
  // An address is of one machine: with another standby by now, the assignment after this one tells it.
  const isSame = now.holderId === holderId;
  const about = { workspaceId, instanceId, standing, address };
  const sync = secret === undefined || !isSame ? undefined : syncPartOf(secret, { workspace, ...about });
  const chunks = secret === undefined || !isSame ? undefined : chunkPartOf(secret, { ...about, movedBy, holderId });
  const head = workspace.headSnapshotId === null ? undefined : await findSnapshot(db, workspace.headSnapshotId);
  return {
    workspaceId: workspace.id,
    epoch: workspace.epoch,
    standing,
    policy: {
      heartbeatIntervalMs: settings.heartbeatIntervalMs,
      snapshotIntervalMs: workspace.policy.snapshotIntervalMs,
      ...(settings.credentialRotateMs !== undefined && { credentialRotateMs: settings.credentialRotateMs }),
    },
    storage: now.mayUseStore ? grant : null,
    head: head === undefined ? null : refOf(head),
    workload: workloadOf(workspace.policy, role),
    ...(sync !== undefined && { sync }),
    ...(chunks !== undefined && { chunks }),
  };
}

/** What an instance is to its workspace. */
interface CurrentStanding {
  readonly role: AgentRole;
  readonly standing: Standing;
  readonly workspace: WorkspaceRow;
  /** A fenced one may while what it held is being harvested. */
  readonly mayUseStore: boolean;
  /** The unfinished operation that moves the workspace. */
  readonly movedBy: OperationId | null;
  /** Who holds a copy of the folder: the standby, or the primary that was the standby before. */
  readonly holderId: InstanceId | null;
}

/** What this instance is to its workspace now; undefined for an unknown one. */
export async function currentStanding(db: Queryable, instanceId: InstanceId): Promise<CurrentStanding | undefined> {
  const instance = await findInstance(db, instanceId);
  if (instance === undefined) return undefined;
  const workspace = must(await findWorkspace(db, instance.workspaceId), 'an instance belongs to a workspace');
  const movedBy = (await moverOf(db, workspace.id)) ?? null;
  const { role, operationId } = instance;
  const isOnTest = operationId !== null && (await testsUnderWay(db, [operationId])).has(operationId);
  const standing = standingOf({ workspace, instance, movedBy, isOnTest });
  const mayUseStore = standing !== 'fenced' || (await isHarvestOpen(db, instanceId));
  return { workspace, role, standing, mayUseStore, movedBy, holderId: await holderOf(db, workspace) };
}

async function holderOf(
  db: Queryable,
  { standbyInstanceId, primaryInstanceId }: WorkspaceRow,
): Promise<InstanceId | null> {
  if (standbyInstanceId !== null || primaryInstanceId === null) return standbyInstanceId;
  return (await findInstance(db, primaryInstanceId))?.role === 'standby' ? primaryInstanceId : null;
}

/** What an agent needs to find and check a snapshot. */
export function refOf(snapshot: SnapshotRow): SnapshotRef {
  const { snapshotId, manifestKey, manifestHash } = snapshot.record;
  return { snapshotId, manifestKey, manifestHash };
}
