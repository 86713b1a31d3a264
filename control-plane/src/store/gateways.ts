import type { InstanceId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { WorkspacePorts } from '@dumont/shared/model/policy.ts';
import { workspacePortsSchema } from '@dumont/shared/model/policy.ts';
import { integer, integerOrNull, json, text, textOrNull } from './columns.ts';
import type { Queryable, Row } from './database.ts';
import { isUniqueViolation } from './serialization.ts';
import { MOVERS } from './workspaces.ts';

/** What the gateway knows of a workspace. */
export interface GatewayRow {
  readonly workspaceId: WorkspaceId;
  readonly name: string;
  readonly epoch: number;
  readonly primaryInstanceId: InstanceId | null;
  readonly ports: WorkspacePorts;
  /** Of its SSH address; null while none is free. */
  readonly port: number | null;
  readonly secret: string;
  /** The last primary that users were pointed at, and its epoch. */
  readonly targetInstanceId: InstanceId | null;
  readonly targetEpoch: number;
}

/** Every workspace that has a gateway. */
export async function listGateways(db: Queryable): Promise<readonly GatewayRow[]> {
  const rows = await db.query(
    `select g.*, w.name, w.epoch, w.primary_instance_id, coalesce(w.policy -> 'ports', '{}'::jsonb) as ports
     from gateways g join workspaces w on w.id = g.workspace_id where w.deleted_at is null`,
  );
  return rows.map(toGateway);
}

/** Workspaces that have none yet, oldest first. */
export async function listWithoutGateway(db: Queryable): Promise<readonly WorkspaceId[]> {
  const rows = await db.query(
    `select id from workspaces w where deleted_at is null
       and not exists (select 1 from gateways g where g.workspace_id = w.id) order by created_at, id`,
  );
  return rows.map((row) => text(row, 'id') as WorkspaceId);
}

/** Gives a workspace its gateway, without a port; nothing happens when it has one. */
export async function insertGateway(db: Queryable, workspaceId: WorkspaceId, secret: string): Promise<void> {
  await db.query('insert into gateways (workspace_id, secret) values ($1, $2) on conflict (workspace_id) do nothing', [
    workspaceId,
    secret,
  ]);
}

/** Takes back the ports of deleted workspaces. */
export async function deleteUnownedGateways(db: Queryable): Promise<void> {
  await db.query('delete from gateways where workspace_id in (select id from workspaces where deleted_at is not null)');
}

/** Gives a workspace its port for life. @returns false when it has one, or another workspace has this one */
export async function claimPort(db: Queryable, workspaceId: WorkspaceId, port: number): Promise<boolean> {
  try {
    const sql = 'update gateways set port = $2 where workspace_id = $1 and port is null returning port';
    return (await db.query(sql, [workspaceId, port])).length > 0;
  } catch (error) {
    if (isUniqueViolation(error)) return false;
    throw error;
  }
}

/** Makes every token signed with the old secret worthless. */
export async function replaceSecret(db: Queryable, workspaceId: WorkspaceId, secret: string): Promise<void> {
  await db.query('update gateways set secret = $2 where workspace_id = $1', [workspaceId, secret]);
}

/**
 * Writes down where users are pointed, once for all replicas that noticed.
 * @returns false when it stood there already, or a newer epoch does
 */
export async function recordTarget(
  db: Queryable,
  workspaceId: WorkspaceId,
  target: { readonly epoch: number; readonly instanceId: InstanceId },
): Promise<boolean> {
  const rows = await db.query(
    `update gateways set target_epoch = $2, target_instance_id = $3
     where workspace_id = $1 and target_epoch <= $2 and target_instance_id is distinct from $3 returning workspace_id`,
    [workspaceId, target.epoch, target.instanceId],
  );
  return rows.length > 0;
}

/** What signs the workspace's tokens; undefined while it has no gateway. */
export async function findGatewaySecret(db: Queryable, workspaceId: WorkspaceId): Promise<string | undefined> {
  const rows = await db.query('select secret from gateways where workspace_id = $1', [workspaceId]);
  return rows[0] === undefined ? undefined : text(rows[0], 'secret');
}

/** Ports of these workspaces' SSH addresses; those without are missing. */
export async function gatewayPortsOf(
  db: Queryable,
  workspaceIds: readonly WorkspaceId[],
): Promise<ReadonlyMap<WorkspaceId, number>> {
  const rows = await db.query(
    `select workspace_id, port from gateways
     where port is not null and workspace_id in (select jsonb_array_elements_text($1::jsonb))`,
    [JSON.stringify(workspaceIds)],
  );
  return new Map(rows.map((row) => [text(row, 'workspace_id') as WorkspaceId, integer(row, 'port')]));
}

/** When the gateway had its first answer from the primary of this epoch, wall ms. */
export async function gatewayAnsweredAt(
  db: Queryable,
  workspaceId: WorkspaceId,
  epoch: number,
): Promise<number | undefined> {
  const rows = await db.query(
    `select at from events where workspace_id = $1 and type = 'gateway.answered' and data ->> 'epoch' = $2
     order by id limit 1`,
    [workspaceId, String(epoch)],
  );
  return rows[0] === undefined ? undefined : integer(rows[0], 'at');
}

/** The unfinished operation that moves a workspace, as the waiting page tells of it. */
export async function findMove(
  db: Queryable,
  workspaceId: WorkspaceId,
): Promise<{ readonly kind: string; readonly state: string; readonly sinceMs: number } | undefined> {
  const rows = await db.query(
    `select kind, state, created_at from operations
     where workspace_id = $1 and finished_at is null and kind in ${MOVERS}`,
    [workspaceId],
  );
  const [row] = rows;
  if (row === undefined) return undefined;
  return { kind: text(row, 'kind'), state: text(row, 'state'), sinceMs: integer(row, 'created_at') };
}

function toGateway(row: Row): GatewayRow {
  return {
    workspaceId: text(row, 'workspace_id') as WorkspaceId,
    name: text(row, 'name'),
    epoch: integer(row, 'epoch'),
    primaryInstanceId: textOrNull(row, 'primary_instance_id') as InstanceId | null,
    ports: workspacePortsSchema.parse(json(row, 'ports')),
    port: integerOrNull(row, 'port'),
    secret: text(row, 'secret'),
    targetInstanceId: textOrNull(row, 'target_instance_id') as InstanceId | null,
    targetEpoch: integer(row, 'target_epoch'),
  };
}
