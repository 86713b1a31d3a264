import type { Queryable } from './database.ts';
import { text } from './columns.ts';

/** The stored value of a setting, made by `create` the first time; concurrent callers all get the winner's. */
export async function ensureSetting(db: Queryable, key: string, create: () => string): Promise<string> {
  await db.query('insert into settings (key, value) values ($1, $2) on conflict (key) do nothing', [key, create()]);
  const rows = await db.query('select value from settings where key = $1', [key]);
  const row = rows[0];
  return row === undefined ? create() : text(row, 'value');
}

export async function putSetting(db: Queryable, key: string, value: string): Promise<void> {
  await db.query(
    'insert into settings (key, value) values ($1, $2) on conflict (key) do update set value = excluded.value',
    [key, value],
  );
}

/** Settings whose key begins with the prefix, by key. */
export async function settingsBelow(db: Queryable, prefix: string): Promise<ReadonlyMap<string, string>> {
  const rows = await db.query('select key, value from settings where starts_with(key, $1) order by key', [prefix]);
  return new Map(rows.map((row) => [text(row, 'key'), text(row, 'value')]));
}
