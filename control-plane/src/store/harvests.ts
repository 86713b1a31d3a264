import type { CommandId, InstanceId, OperationId, SnapshotId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { integer, integerOrNull, text, textOrNull } from './columns.ts';
import type { Queryable, Row } from './database.ts';

/** How a harvest ended; `nothing-late`: everything was in snapshots. */
export const HARVEST_OUTCOMES = ['harvested', 'nothing-late', 'failed'] as const;
export type HarvestOutcome = (typeof HARVEST_OUTCOMES)[number];

/** The permission of a fenced instance to store what it held, once. */
export interface HarvestRow {
  readonly instanceId: InstanceId;
  /** At which it was primary. */
  readonly epoch: number;
  readonly workspaceId: WorkspaceId;
  readonly operationId: OperationId;
  /** The newest snapshot up to that epoch; null when there was none. */
  readonly baseSnapshotId: SnapshotId | null;
  readonly commandId: CommandId;
  readonly openedAtMs: number;
  readonly closedAtMs: number | null;
  /** Null while it is open. */
  readonly outcome: HarvestOutcome | null;
  readonly reason: string | null;
}

/**
 * Permits a fenced instance to have what it held committed as a branch: once for each epoch at which it was primary.
 * @returns the permission, an earlier one as it was; undefined for an instance that is primary, never was, or is being
 * given back
 */
export async function openHarvest(
  db: Queryable,
  harvest: {
    readonly instanceId: InstanceId;
    readonly operationId: OperationId;
    readonly commandId: CommandId;
    readonly atMs: number;
  },
): Promise<HarvestRow | undefined> {
  await db.query(
    `insert into harvests (instance_id, epoch, workspace_id, operation_id, base_snapshot_id, command_id, opened_at)
     select i.id, i.epoch, w.id, $2,
       (select s.id from snapshots s where s.workspace_id = w.id and s.epoch <= i.epoch order by s.seq desc limit 1),
       $3, $4::bigint
     from instances i join workspaces w on w.id = i.workspace_id
     where i.id = $1 and i.epoch is not null and i.state not in ('releasing', 'gone')
       and w.primary_instance_id is distinct from i.id
     on conflict do nothing`,
    [harvest.instanceId, harvest.operationId, harvest.commandId, harvest.atMs],
  );
  return findHarvest(db, harvest.instanceId);
}

/** The permission for the epoch at which the instance was primary last, open or not. */
export async function findHarvest(db: Queryable, instanceId: InstanceId): Promise<HarvestRow | undefined> {
  const rows = await db.query(
    'select h.* from harvests h join instances i on i.id = h.instance_id and i.epoch = h.epoch where i.id = $1',
    [instanceId],
  );
  return rows[0] === undefined ? undefined : toHarvest(rows[0]);
}

/** True while the instance may write to its workspace's storage although it is fenced. */
export async function isHarvestOpen(db: Queryable, instanceId: InstanceId): Promise<boolean> {
  const rows = await db.query('select 1 from harvests where instance_id = $1 and closed_at is null', [instanceId]);
  return rows.length > 0;
}

/** Ends the permission; one that has ended stays as it is. @returns false when it had */
export async function closeHarvest(
  db: Queryable,
  { instanceId, epoch }: Pick<HarvestRow, 'instanceId' | 'epoch'>,
  end: { readonly outcome: HarvestOutcome; readonly reason: string | null; readonly atMs: number },
): Promise<boolean> {
  const rows = await db.query(
    `update harvests set closed_at = $3, outcome = $4, reason = $5
     where instance_id = $1 and epoch = $2 and closed_at is null returning instance_id`,
    [instanceId, epoch, end.atMs, end.outcome, end.reason],
  );
  return rows.length > 0;
}

/** The permission that is open for an instance and epoch, held against other transactions until this one ends. */
export async function lockOpenHarvest(
  tx: Queryable,
  instanceId: InstanceId,
  epoch: number,
): Promise<HarvestRow | undefined> {
  const rows = await tx.query(
    'select * from harvests where instance_id = $1 and epoch = $2 and closed_at is null for update',
    [instanceId, epoch],
  );
  return rows[0] === undefined ? undefined : toHarvest(rows[0]);
}

function toHarvest(row: Row): HarvestRow {
  const outcome = textOrNull(row, 'outcome');
  return {
    instanceId: text(row, 'instance_id') as InstanceId,
    epoch: integer(row, 'epoch'),
    workspaceId: text(row, 'workspace_id') as WorkspaceId,
    operationId: text(row, 'operation_id') as OperationId,
    baseSnapshotId: textOrNull(row, 'base_snapshot_id') as SnapshotId | null,
    commandId: text(row, 'command_id') as CommandId,
    openedAtMs: integer(row, 'opened_at'),
    closedAtMs: integerOrNull(row, 'closed_at'),
    outcome: HARVEST_OUTCOMES.find((known) => known === outcome) ?? null,
    reason: textOrNull(row, 'reason'),
  };
}
