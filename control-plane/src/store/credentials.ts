import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { Queryable } from './database.ts';

/** What an instance's agent may prove itself with, as hashes. Callers compare; these functions only write. */

/** The credential an agent joined with; it replaces all others. */
export async function setCredential(db: Queryable, instanceId: InstanceId, hash: string): Promise<void> {
  await db.query(
    `update instances set credential_hash = $2, next_credential_hash = null, former_credential_hash = null
     where id = $1`,
    [instanceId, hash],
  );
}

/** From here on the proposed one admits the agent as well as its present one. Proposing the present one changes nothing. */
export async function proposeCredential(db: Queryable, instanceId: InstanceId, hash: string): Promise<void> {
  await db.query('update instances set next_credential_hash = $2 where id = $1 and credential_hash <> $2', [
    instanceId,
    hash,
  ]);
}

/**
 * Makes the proposed credential the only one.
 * @returns false when this one is not proposed (any more): it was confirmed before, or another was proposed since
 */
export async function promoteCredential(db: Queryable, instanceId: InstanceId, hash: string): Promise<boolean> {
  const rows = await db.query(
    `update instances set former_credential_hash = credential_hash, credential_hash = next_credential_hash,
       next_credential_hash = null, former_refused_at = null
     where id = $1 and next_credential_hash = $2 returning id`,
    [instanceId, hash],
  );
  return rows.length > 0;
}

/**
 * Counts a use of the former credential as worth a report, unless the last report is less than `gapMs` old.
 * @returns true when it is to be reported
 */
export async function claimFormerReport(
  db: Queryable,
  instanceId: InstanceId,
  when: { readonly atMs: number; readonly gapMs: number },
): Promise<boolean> {
  const rows = await db.query(
    `update instances set former_refused_at = $2::bigint
     where id = $1 and (former_refused_at is null or abs($2::bigint - former_refused_at) >= $3::bigint) returning id`,
    [instanceId, when.atMs, when.gapMs],
  );
  return rows.length > 0;
}
