import type { InstanceId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { Queryable } from './database.ts';
import { toInstance, type InstanceRow } from './instances.ts';
import { toWorkspace, type WorkspaceRow } from './workspaces.ts';

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

/** The workspace has no standby from here on, and what it was allowed ends. @returns false when it was another or none */
export async function dropStandby(db: Queryable, workspaceId: WorkspaceId, instanceId: InstanceId): Promise<boolean> {
  const rows = await db.query(
    `update workspaces set standby_instance_id = null, standby_save_epoch = null
     where id = $1 and standby_instance_id = $2 returning id`,
    [workspaceId, instanceId],
  );
  return rows.length > 0;
}

/**
 * Lets the workspace's standby commit one snapshot at this epoch: only while nobody is primary. Ends with that commit,
 * with {@link forbidStandbySave} and with the next primary.
 * @returns false when it is not the standby, the epoch moved on or somebody is primary
 */
export async function permitStandbySave(
  db: Queryable,
  workspaceId: WorkspaceId,
  permit: { readonly instanceId: InstanceId; readonly epoch: number },
): Promise<boolean> {
  const rows = await db.query(
    `update workspaces set standby_save_epoch = $3
     where id = $1 and standby_instance_id = $2 and epoch = $3 and primary_instance_id is null returning id`,
    [workspaceId, permit.instanceId, permit.epoch],
  );
  return rows.length > 0;
}

/** Nothing more of a standby becomes the head: whoever reads the head afterwards reads the one that is restored. */
export async function forbidStandbySave(db: Queryable, workspaceId: WorkspaceId): Promise<void> {
  await db.query('update workspaces set standby_save_epoch = null where id = $1', [workspaceId]);
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
  const rows = await db.query(
    `select * from workspaces where deleted_at is null
       and (standby_instance_id is not null or policy -> 'standby' ->> 'enabled' = 'true') order by id`,
  );
  return rows.map(toWorkspace);
}
