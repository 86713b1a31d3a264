import type { OperationId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { integer, integerOrNull, json, text, textOrNull } from './columns.ts';
import type { Queryable, Row } from './database.ts';

export const OPERATION_KINDS = [
  'provision',
  'failover',
  'release',
  'standby',
  'provider-test',
  'failover-test',
] as const;
export type OperationKindName = (typeof OPERATION_KINDS)[number];

export interface OperationRow {
  readonly id: OperationId;
  readonly kind: string;
  readonly workspaceId: WorkspaceId | null;
  readonly state: string;
  readonly data: Readonly<Record<string, unknown>>;
  readonly leaseOwner: string | null;
  readonly leaseUntilMs: number;
  readonly runAtMs: number;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
  readonly finishedAtMs: number | null;
  readonly error: string | null;
}

/** Index name of "one mover at a time"; an insert that breaks it means another operation holds the workspace. */
export const ONE_MOVER_INDEX = 'operations_one_mover';

export async function insertOperation(
  db: Queryable,
  operation: {
    readonly id: OperationId;
    readonly kind: OperationKindName;
    readonly workspaceId: WorkspaceId;
    readonly state: string;
    readonly data: Readonly<Record<string, unknown>>;
    readonly atMs: number;
  },
): Promise<void> {
  await db.query(
    `insert into operations (id, kind, workspace_id, state, data, created_at, updated_at) values ($1, $2, $3, $4, $5, $6, $6)`,
    [
      operation.id,
      operation.kind,
      operation.workspaceId,
      operation.state,
      JSON.stringify(operation.data),
      operation.atMs,
    ],
  );
}

export async function findOperation(db: Queryable, operationId: string): Promise<OperationRow | undefined> {
  const rows = await db.query('select * from operations where id = $1', [operationId]);
  return rows[0] === undefined ? undefined : toOperation(rows[0]);
}

/** Newest first, strictly before the cursor row. */
export async function listOperations(
  db: Queryable,
  options: {
    readonly kind?: OperationKindName | undefined;
    readonly workspaceId?: string | undefined;
    readonly state?: string | undefined;
    readonly before?: string | undefined;
    readonly limit: number;
  },
): Promise<readonly OperationRow[]> {
  const rows = await db.query(
    `select * from operations
     where ($1::text is null or kind = $1) and ($2::text is null or workspace_id = $2) and ($3::text is null or state = $3)
       and ($4::text is null or (created_at, id) < (select created_at, id from operations where id = $4))
     order by created_at desc, id desc limit $5`,
    [options.kind ?? null, options.workspaceId ?? null, options.state ?? null, options.before ?? null, options.limit],
  );
  return rows.map(toOperation);
}

export interface ClaimOptions {
  readonly owner: string;
  /** Kinds this process knows; another version's operations are left to it. */
  readonly kinds: readonly string[];
  readonly nowMs: number;
  readonly leaseMs: number;
}

/**
 * Takes up to `limit` unfinished operations that are due and have no owner or one whose lease lapsed, longest due
 * first; never one in `except`. Safe among replicas: a row goes to one of them.
 */
export async function claimOperations(
  db: Queryable,
  options: ClaimOptions & { readonly limit: number; readonly except: readonly OperationId[] },
): Promise<readonly OperationRow[]> {
  const rows = await db.query(
    `with due as materialized (
       select id from operations
       where finished_at is null and run_at <= $2 and (lease_owner is null or lease_until <= $2)
         and kind = any ($5::text[]) and not (id = any ($6::text[]))
       order by run_at, id limit $4 for update skip locked)
     update operations set lease_owner = $1, lease_until = $2::bigint + $3::bigint
     from due where operations.id = due.id returning operations.*`,
    [options.owner, options.nowMs, options.leaseMs, options.limit, options.kinds, options.except],
  );
  return rows.map(toOperation);
}

/** Takes one operation, due or not, unless it is over or another owner's lease still runs. */
export async function claimOperation(
  db: Queryable,
  operationId: OperationId,
  options: ClaimOptions,
): Promise<OperationRow | undefined> {
  const rows = await db.query(
    `update operations set lease_owner = $2, lease_until = $3::bigint + $4::bigint
     where id = $1 and finished_at is null and (lease_owner is null or lease_until <= $3) and kind = any ($5::text[])
     returning *`,
    [operationId, options.owner, options.nowMs, options.leaseMs, options.kinds],
  );
  return rows[0] === undefined ? undefined : toOperation(rows[0]);
}

/** Lets go of every lease; only right where no other process can hold one. */
export async function dropLeases(db: Queryable): Promise<void> {
  await db.query('update operations set lease_owner = null, lease_until = 0 where finished_at is null');
}

/** Prolongs our lease. @returns false when the operation is no longer ours: stop at once. */
export async function renewLease(
  db: Queryable,
  operationId: OperationId,
  options: { readonly owner: string; readonly untilMs: number },
): Promise<boolean> {
  const rows = await db.query(
    'update operations set lease_until = $3 where id = $1 and lease_owner = $2 and finished_at is null returning id',
    [operationId, options.owner, options.untilMs],
  );
  return rows.length > 0;
}

/** Lets any replica go on at once (orderly shutdown), or at `runAtMs` (backoff). */
export async function yieldOperation(
  db: Queryable,
  operationId: OperationId,
  options: { readonly owner: string; readonly runAtMs: number },
): Promise<void> {
  await db.query(
    'update operations set lease_owner = null, lease_until = 0, run_at = $3 where id = $1 and lease_owner = $2',
    [operationId, options.owner, options.runAtMs],
  );
}

/**
 * Saves progress, provided the operation is still ours and where we left it.
 * @returns false when another replica took it over: nothing was written
 */
export async function saveProgress(
  db: Queryable,
  operationId: OperationId,
  change: {
    readonly owner: string;
    readonly fromState: string;
    readonly state: string;
    readonly data: Readonly<Record<string, unknown>>;
    readonly atMs: number;
    readonly finished: boolean;
    /** Null keeps the one recorded before. */
    readonly error: string | null;
    /** Not to be claimed before; null keeps it as it is. */
    readonly runAtMs: number | null;
  },
): Promise<boolean> {
  const rows = await db.query(
    `update operations set state = $4, data = $5, updated_at = $6,
       finished_at = case when $7 then $6::bigint else null end,
       lease_owner = case when $7 then null else lease_owner end,
       error = coalesce($8, error), run_at = coalesce($9, run_at)
     where id = $1 and lease_owner = $2 and state = $3 and finished_at is null returning id`,
    [
      operationId,
      change.owner,
      change.fromState,
      change.state,
      JSON.stringify(change.data),
      change.atMs,
      change.finished,
      change.error,
      change.runAtMs,
    ],
  );
  return rows.length > 0;
}

/** Reads a row of the table `operations`. */
export function toOperation(row: Row): OperationRow {
  return {
    id: text(row, 'id') as OperationId,
    kind: text(row, 'kind'),
    workspaceId: textOrNull(row, 'workspace_id') as WorkspaceId | null,
    state: text(row, 'state'),
    data: json(row, 'data'),
    leaseOwner: textOrNull(row, 'lease_owner'),
    leaseUntilMs: integer(row, 'lease_until'),
    runAtMs: integer(row, 'run_at'),
    createdAtMs: integer(row, 'created_at'),
    updatedAtMs: integer(row, 'updated_at'),
    finishedAtMs: integerOrNull(row, 'finished_at'),
    error: textOrNull(row, 'error'),
  };
}
