import type { OperationId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { text } from './columns.ts';
import type { Queryable } from './database.ts';
import type { OperationRow } from './operations.ts';
import { findOperation, toOperation } from './operations.ts';

/** Tests of workspaces and of providers: operations that rent machines and move nothing. */

/** Those of these operations that are tests and not over. */
export async function testsUnderWay(
  db: Queryable,
  operationIds: readonly OperationId[],
): Promise<ReadonlySet<OperationId>> {
  if (operationIds.length === 0) return new Set();
  const rows = await db.query(
    `select id from operations where finished_at is null and kind in ('provider-test', 'failover-test')
       and id in (select jsonb_array_elements_text($1::jsonb))`,
    [JSON.stringify(operationIds)],
  );
  return new Set(rows.map((row) => text(row, 'id') as OperationId));
}

/**
 * The unfinished test of a workspace, if any. Locks the workspace's row, so that two transactions that ask in order to
 * begin one do so one after the other.
 */
export async function findTestForUpdate(tx: Queryable, workspaceId: WorkspaceId): Promise<OperationId | undefined> {
  await tx.query('select id from workspaces where id = $1 for update', [workspaceId]);
  const rows = await tx.query(
    `select id from operations where workspace_id = $1 and finished_at is null and kind = 'failover-test'`,
    [workspaceId],
  );
  return rows[0] === undefined ? undefined : (text(rows[0], 'id') as OperationId);
}

/** How many tests of providers are not over. */
export async function countProviderTests(db: Queryable): Promise<number> {
  const rows = await db.query(`select id from operations where finished_at is null and kind = 'provider-test'`);
  return rows.length;
}

/** An operation that is a test; undefined for any other. */
export async function findTest(db: Queryable, testId: string): Promise<OperationRow | undefined> {
  const row = await findOperation(db, testId);
  return row?.kind === 'provider-test' || row?.kind === 'failover-test' ? row : undefined;
}

/** Newest first, strictly before the cursor row. */
export async function listTests(
  db: Queryable,
  options: {
    readonly kind?: 'provider-test' | 'failover-test' | undefined;
    readonly workspaceId?: string | undefined;
    readonly before?: string | undefined;
    readonly limit: number;
  },
): Promise<readonly OperationRow[]> {
  const rows = await db.query(
    `select * from operations
     where kind in ('provider-test', 'failover-test') and ($1::text is null or kind = $1)
       and ($2::text is null or workspace_id = $2)
       and ($3::text is null or (created_at, id) < (select created_at, id from operations where id = $3))
     order by created_at desc, id desc limit $4`,
    [options.kind ?? null, options.workspaceId ?? null, options.before ?? null, options.limit],
  );
  return rows.map(toOperation);
}
