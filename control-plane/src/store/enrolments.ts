import type { InstanceId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { integer, integerOrNull, text, textOrNull } from './columns.ts';
import type { Queryable, Row } from './database.ts';

/** A one-time token, by its hash. */
export interface EnrolmentRow {
  readonly hash: string;
  readonly instanceId: InstanceId;
  readonly createdAtMs: number;
  readonly expiresAtMs: number;
  readonly usedAtMs: number | null;
  /** Hash of the credential it was used with. */
  readonly credentialHash: string | null;
  readonly revokedAtMs: number | null;
}

export interface PendingEnrolment {
  readonly instanceId: InstanceId;
  readonly workspaceId: WorkspaceId;
  readonly provider: string;
  readonly createdAtMs: number;
  readonly expiresAtMs: number;
}

export async function insertEnrolment(
  db: Queryable,
  row: {
    readonly hash: string;
    readonly instanceId: InstanceId;
    readonly atMs: number;
    readonly expiresAtMs: number;
  },
): Promise<void> {
  await db.query('insert into enrolment_tokens (hash, instance_id, created_at, expires_at) values ($1, $2, $3, $4)', [
    row.hash,
    row.instanceId,
    row.atMs,
    row.expiresAtMs,
  ]);
}

/** The row, held against other transactions until this one ends. */
export async function lockEnrolment(tx: Queryable, hash: string): Promise<EnrolmentRow | undefined> {
  const rows = await tx.query('select * from enrolment_tokens where hash = $1 for update', [hash]);
  return rows[0] === undefined ? undefined : toEnrolment(rows[0]);
}

/** The newest token of an instance, used or not. */
export async function findEnrolment(db: Queryable, instanceId: InstanceId): Promise<EnrolmentRow | undefined> {
  const rows = await db.query(
    'select * from enrolment_tokens where instance_id = $1 order by created_at desc, hash limit 1',
    [instanceId],
  );
  return rows[0] === undefined ? undefined : toEnrolment(rows[0]);
}

export async function markEnrolmentUsed(
  db: Queryable,
  hash: string,
  use: { readonly credentialHash: string; readonly atMs: number },
): Promise<void> {
  await db.query('update enrolment_tokens set used_at = $2, credential_hash = $3 where hash = $1', [
    hash,
    use.atMs,
    use.credentialHash,
  ]);
}

/** Makes every unused token of an instance worthless. @returns false when there was none to revoke */
export async function revokeEnrolments(db: Queryable, instanceId: InstanceId, atMs: number): Promise<boolean> {
  const rows = await db.query(
    `update enrolment_tokens set revoked_at = $2
     where instance_id = $1 and used_at is null and revoked_at is null returning hash`,
    [instanceId, atMs],
  );
  return rows.length > 0;
}

/**
 * Counts a misuse of a token as worth a report, unless the last report is less than `gapMs` old.
 * @returns true when it is to be reported
 */
export async function claimMisuseReport(
  db: Queryable,
  hash: string,
  when: { readonly atMs: number; readonly gapMs: number },
): Promise<boolean> {
  const rows = await db.query(
    `update enrolment_tokens set refused_at = $2::bigint
     where hash = $1 and (refused_at is null or abs($2::bigint - refused_at) >= $3::bigint) returning hash`,
    [hash, when.atMs, when.gapMs],
  );
  return rows.length > 0;
}

/** Unused, unrevoked tokens of machines that are still wanted, newest first, strictly before the cursor's instance. */
export async function listPendingEnrolments(
  db: Queryable,
  options: { readonly before?: string | undefined; readonly limit: number },
): Promise<readonly PendingEnrolment[]> {
  const rows = await db.query(
    `select t.instance_id, t.created_at, t.expires_at, i.workspace_id, i.provider
     from enrolment_tokens t join instances i on i.id = t.instance_id
     where t.used_at is null and t.revoked_at is null and i.state not in ('releasing', 'gone')
       and ($1::text is null or (t.created_at, t.instance_id) <
         (select created_at, instance_id from enrolment_tokens where instance_id = $1
          order by created_at desc limit 1))
     order by t.created_at desc, t.instance_id desc limit $2`,
    [options.before ?? null, options.limit],
  );
  return rows.map((row) => ({
    instanceId: text(row, 'instance_id') as InstanceId,
    workspaceId: text(row, 'workspace_id') as WorkspaceId,
    provider: text(row, 'provider'),
    createdAtMs: integer(row, 'created_at'),
    expiresAtMs: integer(row, 'expires_at'),
  }));
}

function toEnrolment(row: Row): EnrolmentRow {
  return {
    hash: text(row, 'hash'),
    instanceId: text(row, 'instance_id') as InstanceId,
    createdAtMs: integer(row, 'created_at'),
    expiresAtMs: integer(row, 'expires_at'),
    usedAtMs: integerOrNull(row, 'used_at'),
    credentialHash: textOrNull(row, 'credential_hash'),
    revokedAtMs: integerOrNull(row, 'revoked_at'),
  };
}
