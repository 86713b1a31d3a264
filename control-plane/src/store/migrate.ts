import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { Database } from './database.ts';

/**
 * Brings the schema up to date: runs each numbered file of `migrations/` once, in order, one transaction each.
 * Idempotent; several processes may call it together on PostgreSQL (they wait for one lock).
 * @throws {DumontError} CONFLICT when the database was written by a newer version.
 */
export async function migrate(database: Database, directory = join(import.meta.dirname, 'migrations')): Promise<void> {
  const files = (await readdir(directory)).filter((name) => /^\d{4}-[a-z0-9-]+\.sql$/.test(name)).toSorted();
  await database.transaction(async (tx) => {
    // "if not exists" alone fails when two processes create the table at the same moment.
    await tx.query('select pg_advisory_xact_lock($1)', [MIGRATION_LOCK]);
    await tx.query('create table if not exists schema_migrations (name text primary key, at bigint not null)');
  });
  const known = new Set(files);
  const newer = (await database.query('select name from schema_migrations')).map((row) => String(row['name']));
  const foreign = newer.find((name) => !known.has(name));
  if (foreign !== undefined) {
    throw new DumontError('CONFLICT', `the database has migration ${foreign}, which this version does not know`, {
      hint: 'Run the newer version of the control plane, or restore an older copy of the database.',
    });
  }
  for (const name of files) {
    const sql = await readFile(join(directory, name), 'utf8');
    await database.transaction(async (tx) => {
      // Taking the lock first means that the transaction's view of the table begins after any other migrator's commit.
      await tx.query('lock table schema_migrations in exclusive mode');
      const done = await tx.query('select 1 from schema_migrations where name = $1', [name]);
      if (done.length > 0) return;
      for (const statement of splitStatements(sql)) await tx.query(statement);
      await tx.query(
        'insert into schema_migrations (name, at) values ($1, (extract(epoch from clock_timestamp()) * 1000)::bigint)',
        [name],
      );
    });
  }
}

/** Advisory lock held while the table of migrations is created; any number no other lock of ours uses. */
const MIGRATION_LOCK = 716_300;

/** Our migrations hold plain statements without semicolons in literals or bodies, so a split at line ends is exact. */
function splitStatements(sql: string): readonly string[] {
  return sql
    .split('\n')
    .filter((line) => !line.trimStart().startsWith('--'))
    .join('\n')
    .split(/;\s*(?:\n|$)/)
    .map((statement) => statement.trim())
    .filter((statement) => statement !== '');
}
