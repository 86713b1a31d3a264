import type { InstanceId } from '@dumont/shared/model/ids.ts';
import { text } from './columns.ts';
import type { Queryable } from './database.ts';

/** Writes down a key before anybody gets it, so that it can be taken away whatever happens next. */
export async function insertStorageKey(
  db: Queryable,
  key: { readonly keyId: string; readonly instanceId: InstanceId; readonly expiresAtMs: number },
): Promise<void> {
  await db.query('insert into storage_keys (key_id, instance_id, expires_at) values ($1, $2, $3)', [
    key.keyId,
    key.instanceId,
    key.expiresAtMs,
  ]);
}

/**
 * Keys to delete: expired, or of instances that are lost, given back or fenced, unless one of those is being harvested.
 * The same rule as `standingOf`, but for a machine whose preparation was given up, which is given back next.
 */
export async function listForgottenStorageKeys(
  db: Queryable,
  options: { readonly nowMs: number; readonly limit: number },
): Promise<readonly string[]> {
  const rows = await db.query(
    `select k.key_id from storage_keys k
     join instances i on i.id = k.instance_id
     join workspaces w on w.id = i.workspace_id
     where k.expires_at <= $1
       or (w.primary_instance_id is distinct from i.id
           and (i.epoch is not null or i.state in ('lost', 'releasing', 'gone'))
           and not exists (select 1 from harvests h where h.instance_id = i.id and h.closed_at is null))
     order by k.expires_at limit $2`,
    [options.nowMs, options.limit],
  );
  return rows.map((row) => text(row, 'key_id'));
}

export async function deleteStorageKey(db: Queryable, keyId: string): Promise<void> {
  await db.query('delete from storage_keys where key_id = $1', [keyId]);
}
