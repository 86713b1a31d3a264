import type { Database } from './database.ts';
import { migrate } from './migrate.ts';
import { openPglite } from './pglite.ts';
import { openPostgres } from './postgres.ts';

/** The configured database, migrated: PostgreSQL by URL, else PGlite in the data directory. */
export async function openDatabase(options: {
  readonly databaseUrl: string | undefined;
  readonly dataDirectory: string;
}): Promise<Database> {
  const database =
    options.databaseUrl === undefined
      ? await openPglite(options.dataDirectory)
      : await openPostgres(options.databaseUrl);
  try {
    await migrate(database);
    return database;
  } catch (error) {
    await database[Symbol.asyncDispose]();
    throw error;
  }
}
