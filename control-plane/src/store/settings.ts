import type { Queryable } from './database.ts';
import { text } from './columns.ts';

/** The stored value of a setting, made by `create` the first time; concurrent callers all get the winner's. */
export async function ensureSetting(db: Queryable, key: string, create: () => string): Promise<string> {
  await db.query('insert into settings (key, value) values ($1, $2) on conflict (key) do nothing', [key, create()]);
  const rows = await db.query('select value from settings where key = $1', [key]);
  const row = rows[0];
  return row === undefined ? create() : text(row, 'value');
}
