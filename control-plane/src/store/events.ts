import type { EventView } from '@dumont/shared/api/views.ts';
import { integer, json, text, textOrNull } from './columns.ts';
import type { Queryable, Row } from './database.ts';
import type { EventType } from './event-types.ts';

/** Advisory lock that puts events in commit order; any number no other lock of ours uses. */
const EVENT_ORDER_LOCK = 716_301;

export interface NewEvent {
  readonly type: EventType;
  readonly atMs: number;
  readonly workspaceId?: string | null;
  readonly instanceId?: string | null;
  readonly operationId?: string | null;
  readonly data?: Readonly<Record<string, unknown>>;
}

/**
 * Writes one line of history. Ids become visible in growing order (the lock lasts until commit), so a reader that
 * resumes after the last id it saw misses nothing.
 */
export async function appendEvent(db: Queryable, event: NewEvent): Promise<EventView> {
  const rows = await db.query(
    `with ordered as materialized (select pg_advisory_xact_lock($7))
     insert into events (at, type, workspace_id, instance_id, operation_id, data)
     select $1::bigint, $2::text, $3::text, $4::text, $5::text, $6::jsonb from ordered returning *`,
    [
      event.atMs,
      event.type,
      event.workspaceId ?? null,
      event.instanceId ?? null,
      event.operationId ?? null,
      JSON.stringify(event.data ?? {}),
      EVENT_ORDER_LOCK,
    ],
  );
  return toEvent(rows[0] as Row);
}

/** Events after an id, oldest first. */
export async function listEvents(
  db: Queryable,
  options: { readonly after: number; readonly limit: number; readonly workspaceId?: string },
): Promise<readonly EventView[]> {
  const rows = await db.query(
    `select * from events where id > $1 and ($2::text is null or workspace_id = $2) order by id limit $3`,
    [options.after, options.workspaceId ?? null, options.limit],
  );
  return rows.map(toEvent);
}

/** Id of the newest event, 0 before the first. */
export async function lastEventId(db: Queryable): Promise<number> {
  const rows = await db.query('select coalesce(max(id), 0)::bigint as id from events');
  return integer(rows[0] as Row, 'id');
}

function toEvent(row: Row): EventView {
  return {
    eventId: integer(row, 'id'),
    atMs: integer(row, 'at'),
    type: text(row, 'type'),
    workspaceId: textOrNull(row, 'workspace_id'),
    instanceId: textOrNull(row, 'instance_id'),
    operationId: textOrNull(row, 'operation_id'),
    data: json(row, 'data'),
  };
}
