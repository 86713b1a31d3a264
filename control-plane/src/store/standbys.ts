import type { InstanceId, SnapshotId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { AgentRole } from '@dumont/shared/model/instance.ts';
import { KINDS_WITH_STANDBY } from '@dumont/shared/model/policy.ts';
import type { Queryable } from './database.ts';
import { toInstance, type InstanceRow } from './instances.ts';
import { MOVERS, toWorkspace, type WorkspaceRow } from './workspaces.ts';

/** One unfinished operation at most looks for a workspace's standby. */
export const ONE_STANDBY_INDEX = 'operations_one_standby';

/**
 * Makes an instance the workspace's standby, unless there is another. Repeating it succeeds.
 * @returns false when another one is
 */
export async function nameStandby(db: Queryable, workspaceId: WorkspaceId, instanceId: InstanceId): Promise<boolean> {
  const rows = await db.query(
    `update workspaces set standby_instance_id = $2
     where id = $1 and (standby_instance_id is null or standby_instance_id = $2) returning id`,
    [workspaceId, instanceId],
  );
  return rows.length > 0;
}

/** The workspace has no standby from here on. @returns false when it was another or none */
export async function dropStandby(db: Queryable, workspaceId: WorkspaceId, instanceId: InstanceId): Promise<boolean> {
  const rows = await db.query(
    `update workspaces set standby_instance_id = null where id = $1 and standby_instance_id = $2 returning id`,
    [workspaceId, instanceId],
  );
  return rows.length > 0;
}

/**
 * Fences the primary and makes the standby primary in its place, with users pointed at it: one statement, so nobody ever
 * sees one without the other. It is no standby from here on. Compare-and-swap on everything the decision was made from.
 * @returns the workspace after it; undefined when the primary, the standby or the head is another by now, or the standby
 * is not ready: nothing was changed
 */
export async function promoteStandby(
  db: Queryable,
  workspaceId: WorkspaceId,
  seen: {
    readonly primaryId: InstanceId;
    readonly standbyId: InstanceId;
    readonly headSnapshotId: SnapshotId | null;
  },
): Promise<WorkspaceRow | undefined> {
  const rows = await db.query(
    `update workspaces set epoch = epoch + 1, primary_instance_id = $3, endpoint_instance_id = $3,
       standby_instance_id = null
     where id = $1 and primary_instance_id = $2 and standby_instance_id = $3
       and head_snapshot_id is not distinct from $4
       and exists (select 1 from instances where id = $3 and state = 'ready' and epoch is null)
     returning *`,
    [workspaceId, seen.primaryId, seen.standbyId, seen.headSnapshotId],
  );
  if (rows[0] === undefined) return undefined;
  const workspace = toWorkspace(rows[0]);
  await db.query('update instances set epoch = $2 where id = $1', [seen.standbyId, workspace.epoch]);
  return workspace;
}

/** Workspaces whose primary is their former standby, that nobody moves, and whose last failover did not fail since. */
export async function listLeftOnStandby(db: Queryable, notFailedSinceMs: number): Promise<readonly WorkspaceRow[]> {
  const rows = await db.query(
    `select w.* from workspaces w join instances i on i.id = w.primary_instance_id
     where w.deleted_at is null and i.role = 'standby' and i.state = 'ready'
       and not exists (select 1 from operations o where o.workspace_id = w.id and o.kind in ${MOVERS}
         and (o.finished_at is null or (o.kind = 'failover' and o.state <> 'completed' and o.finished_at > $1)))`,
    [notFailedSinceMs],
  );
  return rows.map(toWorkspace);
}

/** The kind of machine that is primary of each of these workspaces; those without a primary are missing. */
export async function primaryRolesOf(
  db: Queryable,
  workspaceIds: readonly WorkspaceId[],
): Promise<ReadonlyMap<WorkspaceId, AgentRole>> {
  const rows = await db.query(
    `select i.* from workspaces w join instances i on i.id = w.primary_instance_id
     where w.id in (select jsonb_array_elements_text($1::jsonb))`,
    [JSON.stringify(workspaceIds)],
  );
  return new Map(rows.map(toInstance).map(({ workspaceId, role }) => [workspaceId, role]));
}

/** The standby of each of these workspaces; those without one are missing. */
export async function standbysOf(
  db: Queryable,
  workspaceIds: readonly WorkspaceId[],
): Promise<ReadonlyMap<WorkspaceId, InstanceRow>> {
  const rows = await db.query(
    `select i.* from workspaces w join instances i on i.id = w.standby_instance_id
     where w.id in (select jsonb_array_elements_text($1::jsonb))`,
    [JSON.stringify(workspaceIds)],
  );
  return new Map(rows.map(toInstance).map((instance) => [instance.workspaceId, instance]));
}

/** Workspaces that have a standby or want one. */
export async function listStandbyWorkspaces(db: Queryable): Promise<readonly WorkspaceRow[]> {
  // As `wantsStandby` has it: most workspaces want none, and need not be read every second.
  const rows = await db.query(
    `select * from workspaces where deleted_at is null
       and (standby_instance_id is not null or policy -> 'standby' ->> 'enabled' = 'true'
         or (policy -> 'standby' ->> 'enabled' = 'auto'
           and policy -> 'workload' ->> 'kind' in (select jsonb_array_elements_text($1::jsonb)))) order by id`,
    [JSON.stringify(KINDS_WITH_STANDBY)],
  );
  return rows.map(toWorkspace);
}
