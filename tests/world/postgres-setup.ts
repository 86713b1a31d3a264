import type { TestProject } from 'vitest/node';
import { findPostgresBinaries, startPostgres } from './postgres-server.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** Where tests may create databases; null when there is no PostgreSQL, and then `postgresAbsence` says why. */
    postgresUrl: string | null;
    postgresAbsence: string;
  }
}

/** One PostgreSQL for a whole test run: the server that DATABASE_URL names, else a private one. */
export async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  const given = process.env['DATABASE_URL'] ?? '';
  const binaries = given === '' ? await findPostgresBinaries() : undefined;
  project.provide('postgresAbsence', 'no DATABASE_URL and no server binaries in /usr/lib/postgresql');
  if (given !== '' || binaries === undefined) {
    project.provide('postgresUrl', given === '' ? null : given);
    return undefined;
  }
  const server = await startPostgres(binaries);
  project.provide('postgresUrl', server.url);
  return async () => {
    await server[Symbol.asyncDispose]();
  };
}
