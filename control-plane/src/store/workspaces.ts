import type { InstanceId, OperationId, SnapshotId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { WorkspacePolicy } from '@dumont/shared/model/policy.ts';
import { workspacePolicySchema } from '@dumont/shared/model/policy.ts';
import { integer, json, text, textOrNull } from './columns.ts';
import type { Queryable, Row } from './database.ts';

/** Operations that move a workspace, for queries. One at most of a workspace is unfinished: index operations_one_mover. */
export const MOVERS = `('failover', 'provision', 'release')`;

export interface WorkspaceRow {
  readonly id: WorkspaceId;
  readonly name: string;
  readonly epoch: number;
  readonly primaryInstanceId: InstanceId | null;
  readonly endpointInstanceId: InstanceId | null;
  readonly headSnapshotId: SnapshotId | null;
  /** The machine that keeps a copy of the folder. */
  readonly standbyInstanceId: InstanceId | null;
  readonly policy: WorkspacePolicy;
  readonly createdAtMs: number;
}

export async function insertWorkspace(
  db: Queryable,
  workspace: {
    readonly id: WorkspaceId;
    readonly name: string;
    readonly policy: WorkspacePolicy;
    readonly atMs: number;
  },
): Promise<void> {
  await db.query('insert into workspaces (id, name, policy, created_at) values ($1, $2, $3, $4)', [
    workspace.id,
    workspace.name,
    JSON.stringify(workspace.policy),
    workspace.atMs,
  ]);
}

/** By id or by name. */
export async function findWorkspace(db: Queryable, idOrName: string): Promise<WorkspaceRow | undefined> {
  const rows = await db.query('select * from workspaces where (id = $1 or name = $1) and deleted_at is null', [
    idOrName,
  ]);
  return rows[0] === undefined ? undefined : toWorkspace(rows[0]);
}

/** By name, starting after `after`; without those that tests of providers rent under. */
export async function listWorkspaces(
  db: Queryable,
  options: { readonly after?: string | undefined; readonly limit: number },
): Promise<readonly WorkspaceRow[]> {
  const rows = await db.query(
    `select * from workspaces w where deleted_at is null and ($1::text is null or name > $1)
       and not exists (select 1 from operations o where o.workspace_id = w.id and o.kind = 'provider-test')
     order by name limit $2`,
    [options.after ?? null, options.limit],
  );
  return rows.map(toWorkspace);
}

/** Workspaces that have a primary: those the detector must watch. */
export async function listWithPrimary(db: Queryable): Promise<readonly WorkspaceRow[]> {
  const rows = await db.query('select * from workspaces where primary_instance_id is not null and deleted_at is null');
  return rows.map(toWorkspace);
}

/**
 * Workspaces that users are pointed at and nobody serves: without a primary, nobody moving them, and no failover of theirs
 * given up since. One that was stopped on purpose, or never came up, points at nothing.
 */
export async function listUnserved(db: Queryable, notFailedSinceMs: number): Promise<readonly WorkspaceRow[]> {
  const rows = await db.query(
    `select w.* from workspaces w
     where w.deleted_at is null and w.primary_instance_id is null and w.endpoint_instance_id is not null
       and not exists (select 1 from operations o where o.workspace_id = w.id and o.kind in ${MOVERS}
         and (o.finished_at is null or (o.kind = 'failover' and o.state = 'failed' and o.finished_at > $1)))`,
    [notFailedSinceMs],
  );
  return rows.map(toWorkspace);
}

/**
 * Fences whoever is primary: epoch + 1, nobody primary. Compare-and-swap on the expected primary.
 * @returns the workspace after the fence; undefined when somebody else was primary, or nobody
 */
export async function fencePrimary(
  db: Queryable,
  workspaceId: WorkspaceId,
  expectedPrimary: InstanceId,
): Promise<WorkspaceRow | undefined> {
  const rows = await db.query(
    `update workspaces set epoch = epoch + 1, primary_instance_id = null
     where id = $1 and primary_instance_id = $2 returning *`,
    [workspaceId, expectedPrimary],
  );
  return rows[0] === undefined ? undefined : toWorkspace(rows[0]);
}

/**
 * Makes an instance primary at the workspace's present epoch, provided nobody is.
 * @returns the workspace after it; undefined when the epoch moved on or somebody else is primary. Repeating it succeeds.
 */
export async function promotePrimary(
  db: Queryable,
  workspaceId: WorkspaceId,
  instanceId: InstanceId,
  epoch: number,
): Promise<WorkspaceRow | undefined> {
  const rows = await db.query(
    `update workspaces set primary_instance_id = $2
     where id = $1 and epoch = $3 and (primary_instance_id is null or primary_instance_id = $2) returning *`,
    [workspaceId, instanceId, epoch],
  );
  if (rows[0] === undefined) return undefined;
  await db.query('update instances set epoch = $2 where id = $1', [instanceId, epoch]);
  return toWorkspace(rows[0]);
}

/** Points users at an instance, or at nothing. */
export async function setEndpoint(
  db: Queryable,
  workspaceId: WorkspaceId,
  instanceId: InstanceId | null,
): Promise<void> {
  await db.query('update workspaces set endpoint_instance_id = $2 where id = $1', [workspaceId, instanceId]);
}

/** Id of the unfinished operation that moves this workspace, if any. */
export async function moverOf(db: Queryable, workspaceId: WorkspaceId): Promise<OperationId | undefined> {
  const rows = await db.query(
    `select id from operations where workspace_id = $1 and finished_at is null and kind in ${MOVERS}`,
    [workspaceId],
  );
  return rows[0] === undefined ? undefined : (text(rows[0], 'id') as OperationId);
}

/** Reads a row of the table `workspaces`. */
export function toWorkspace(row: Row): WorkspaceRow {
  return {
    id: text(row, 'id') as WorkspaceId,
    name: text(row, 'name'),
    epoch: integer(row, 'epoch'),
    primaryInstanceId: textOrNull(row, 'primary_instance_id') as InstanceId | null,
    endpointInstanceId: textOrNull(row, 'endpoint_instance_id') as InstanceId | null,
    headSnapshotId: textOrNull(row, 'head_snapshot_id') as SnapshotId | null,
    standbyInstanceId: textOrNull(row, 'standby_instance_id') as InstanceId | null,
    policy: workspacePolicySchema.parse(json(row, 'policy')),
    createdAtMs: integer(row, 'created_at'),
  };
}
