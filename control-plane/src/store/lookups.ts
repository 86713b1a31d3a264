import type { InstanceId, OperationId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { integer, integerOrNull, text } from './columns.ts';
import type { Queryable } from './database.ts';
import { MOVERS } from './workspaces.ts';

/** Facts about many rows in one query each, for lists: what a view needs beside its own row. */

export interface Rental {
  readonly priceMicroUsdPerHour: number;
  readonly rentedAtMs: number | null;
  readonly goneAtMs: number | null;
}

/** What the ledger says about these instances; those it does not know are missing. */
export async function rentalsOf(
  db: Queryable,
  instanceIds: readonly InstanceId[],
): Promise<ReadonlyMap<InstanceId, Rental>> {
  const rows = await db.query(
    `select instance_id, price_micro_usd_per_hour, rented_at, gone_at from ledger
     where instance_id in (select jsonb_array_elements_text($1::jsonb))`,
    [JSON.stringify(instanceIds)],
  );
  return new Map(
    rows.map((row) => [
      text(row, 'instance_id') as InstanceId,
      {
        priceMicroUsdPerHour: integer(row, 'price_micro_usd_per_hour'),
        rentedAtMs: integerOrNull(row, 'rented_at'),
        goneAtMs: integerOrNull(row, 'gone_at'),
      },
    ]),
  );
}

/** The unfinished operation that moves each of these workspaces; those nobody moves are missing. */
export async function moversOf(
  db: Queryable,
  workspaceIds: readonly WorkspaceId[],
): Promise<ReadonlyMap<WorkspaceId, OperationId>> {
  const rows = await db.query(
    `select workspace_id, id from operations
     where finished_at is null and kind in ${MOVERS}
       and workspace_id in (select jsonb_array_elements_text($1::jsonb))`,
    [JSON.stringify(workspaceIds)],
  );
  return new Map(rows.map((row) => [text(row, 'workspace_id') as WorkspaceId, text(row, 'id') as OperationId]));
}

/** When each of these workspaces' head was committed, wall ms; those without a snapshot are missing. */
export async function headTimesOf(
  db: Queryable,
  workspaceIds: readonly WorkspaceId[],
): Promise<ReadonlyMap<WorkspaceId, number>> {
  const rows = await db.query(
    `select w.id, s.committed_at from workspaces w join snapshots s on s.id = w.head_snapshot_id
     where w.id in (select jsonb_array_elements_text($1::jsonb))`,
    [JSON.stringify(workspaceIds)],
  );
  return new Map(rows.map((row) => [text(row, 'id') as WorkspaceId, integer(row, 'committed_at')]));
}
