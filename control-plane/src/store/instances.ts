import { z } from 'zod';
import type { InstanceId, OperationId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { AgentRole, InstanceEvent, InstanceState } from '@dumont/shared/model/instance.ts';
import { AGENT_ROLES, INSTANCE_STATES, INSTANCE_TABLE } from '@dumont/shared/model/instance.ts';
import type { Offer } from '@dumont/shared/model/offer.ts';
import { offerSchema } from '@dumont/shared/model/offer.ts';
import { nextState } from '@dumont/shared/model/transition.ts';
import { integer, integerOrNull, json, text, textOrNull } from './columns.ts';
import type { Queryable, Row } from './database.ts';
import { MOVERS } from './workspaces.ts';

export interface InstanceRow {
  readonly id: InstanceId;
  readonly workspaceId: WorkspaceId;
  /** The operation that rented it. */
  readonly operationId: OperationId | null;
  readonly role: AgentRole;
  readonly state: InstanceState;
  /** Epoch at which it was last primary; null when it never was. */
  readonly epoch: number | null;
  /** Of what its agent proves itself with; null until it has joined. */
  readonly credentialHash: string | null;
  /** Of the credential proposed and not confirmed. */
  readonly nextCredentialHash: string | null;
  /** Of the one before, which admits nobody. */
  readonly formerCredentialHash: string | null;
  readonly offer: Offer;
  readonly providerRef: string | null;
  readonly requestedAtMs: number;
  readonly readyAtMs: number | null;
  /** When its loss was confirmed last. */
  readonly lostAtMs: number | null;
  readonly goneAtMs: number | null;
}

export interface NewInstance {
  readonly id: InstanceId;
  readonly workspaceId: WorkspaceId;
  readonly operationId: OperationId | null;
  readonly role: AgentRole;
  readonly offer: Offer;
  readonly atMs: number;
}

export async function insertInstance(db: Queryable, instance: NewInstance): Promise<void> {
  await db.query(
    `insert into instances (id, workspace_id, operation_id, role, state, provider, offer, requested_at)
     values ($1, $2, $3, $4, 'requested', $5, $6, $7)`,
    [
      instance.id,
      instance.workspaceId,
      instance.operationId,
      instance.role,
      instance.offer.provider,
      JSON.stringify(instance.offer),
      instance.atMs,
    ],
  );
}

/**
 * Moves an instance through its state table, once, whatever the caller believes its state to be. Call it inside a
 * transaction, or accept that a concurrent event may win.
 * @returns the state before and after; undefined for an unknown instance
 */
export async function applyInstanceEvent(
  db: Queryable,
  instanceId: InstanceId,
  event: InstanceEvent,
  atMs: number,
): Promise<{ readonly before: InstanceState; readonly after: InstanceState } | undefined> {
  const rows = await db.query('select state from instances where id = $1 for update', [instanceId]);
  if (rows[0] === undefined) return undefined;
  const before = z.enum(INSTANCE_STATES).parse(rows[0]['state']);
  const after = nextState(INSTANCE_TABLE, before, event);
  if (after !== before) {
    await db.query(
      `update instances set state = $2,
         ready_at = case when $2 = 'ready' then coalesce(ready_at, $3) else ready_at end,
         lost_at = case when $2 = 'lost' then $3 else lost_at end,
         gone_at = case when $2 = 'gone' then $3 else gone_at end
       where id = $1`,
      [instanceId, after, atMs],
    );
  }
  return { before, after };
}

export async function setProviderRef(db: Queryable, instanceId: InstanceId, providerRef: string): Promise<void> {
  await db.query('update instances set provider_ref = $2 where id = $1', [instanceId, providerRef]);
}

export async function findInstance(db: Queryable, instanceId: string): Promise<InstanceRow | undefined> {
  const rows = await db.query('select * from instances where id = $1', [instanceId]);
  return rows[0] === undefined ? undefined : toInstance(rows[0]);
}

/** Machines an operation rented that were not given back yet, oldest first. */
export async function listHeldByOperation(db: Queryable, operationId: OperationId): Promise<readonly InstanceRow[]> {
  const rows = await db.query(
    `select * from instances where operation_id = $1 and state not in ('releasing', 'gone') order by requested_at, id`,
    [operationId],
  );
  return rows.map(toInstance);
}

/** Every machine an operation ever asked for. */
export async function listByOperation(db: Queryable, operationId: OperationId): Promise<readonly InstanceRow[]> {
  const rows = await db.query('select * from instances where operation_id = $1 order by requested_at, id', [
    operationId,
  ]);
  return rows.map(toInstance);
}

/** Machines whose agent is up, of every workspace. */
export async function listReadyIds(db: Queryable): Promise<readonly InstanceId[]> {
  const rows = await db.query("select id from instances where state = 'ready'");
  return rows.map((row) => text(row, 'id') as InstanceId);
}

/** Newest first, strictly before the cursor row. */
export async function listInstances(
  db: Queryable,
  options: {
    readonly workspaceId?: string | undefined;
    readonly includeGone: boolean;
    readonly before?: string | undefined;
    readonly limit: number;
  },
): Promise<readonly InstanceRow[]> {
  const rows = await db.query(
    `select * from instances i
     where ($1::text is null or workspace_id = $1) and ($2 or state <> 'gone')
       and ($3::text is null or (requested_at, id) < (select requested_at, id from instances where id = $3))
     order by requested_at desc, id desc limit $4`,
    [options.workspaceId ?? null, options.includeGone, options.before ?? null, options.limit],
  );
  return rows.map(toInstance);
}

/**
 * Machines held for no reason any more: their operation is over and no workspace has them as primary, endpoint or standby.
 * The sweeper gives them back.
 */
export async function listForgotten(db: Queryable): Promise<readonly InstanceRow[]> {
  const rows = await db.query(
    `select i.* from instances i
     left join operations o on o.id = i.operation_id
     where i.state not in ('releasing', 'gone') and (o.id is null or o.finished_at is not null)
       and not exists (
         select 1 from workspaces w where i.id in (w.primary_instance_id, w.endpoint_instance_id, w.standby_instance_id))
       and not exists (
         select 1 from operations m where m.workspace_id = i.workspace_id and m.finished_at is null
           and m.kind in ${MOVERS})`,
  );
  return rows.map(toInstance);
}

/**
 * Lost machines whose workspace nobody is moving: their loss was confirmed while another operation ran. A workspace
 * whose failover from that machine gave up is left to its operator.
 */
export async function listUnattendedLosses(db: Queryable): Promise<readonly InstanceRow[]> {
  const rows = await db.query(
    `select i.* from instances i
     join workspaces w on coalesce(w.primary_instance_id, w.endpoint_instance_id) = i.id
     where i.state = 'lost' and w.deleted_at is null
       and not exists (select 1 from operations o where o.workspace_id = w.id and o.finished_at is null
         and o.kind in ${MOVERS})
       and not exists (
         select 1 from operations o
         where o.workspace_id = w.id and o.kind = 'failover' and o.state = 'failed'
           and o.data ->> 'fromInstanceId' = i.id)`,
  );
  return rows.map(toInstance);
}

/** Reads a row of the table `instances`. */
export function toInstance(row: Row): InstanceRow {
  return {
    id: text(row, 'id') as InstanceId,
    workspaceId: text(row, 'workspace_id') as WorkspaceId,
    operationId: textOrNull(row, 'operation_id') as OperationId | null,
    role: z.enum(AGENT_ROLES).parse(row['role']),
    state: z.enum(INSTANCE_STATES).parse(row['state']),
    epoch: integerOrNull(row, 'epoch'),
    credentialHash: textOrNull(row, 'credential_hash'),
    nextCredentialHash: textOrNull(row, 'next_credential_hash'),
    formerCredentialHash: textOrNull(row, 'former_credential_hash'),
    offer: offerSchema.parse(json(row, 'offer')),
    providerRef: textOrNull(row, 'provider_ref'),
    requestedAtMs: integer(row, 'requested_at'),
    readyAtMs: integerOrNull(row, 'ready_at'),
    lostAtMs: integerOrNull(row, 'lost_at'),
    goneAtMs: integerOrNull(row, 'gone_at'),
  };
}
