import { mkdir } from 'node:fs/promises';
import { PGlite, types } from '@electric-sql/pglite';
import { DumontError, isDumontError } from '@dumont/shared/util/errors.ts';
import type { Database, Queryable, Row } from './database.ts';
import { claimDirectory } from './directory-claim.ts';

/**
 * Opens (or creates) the embedded PostgreSQL in a directory; one process at a time. Survives kill -9 at default
 * settings: an acknowledged transaction is on disk.
 * @throws {DumontError} CONFLICT when another live process has the directory, IO when it cannot be opened.
 */
export async function openPglite(directory: string): Promise<Database> {
  let claim: AsyncDisposable | undefined;
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    claim = await claimDirectory(directory);
    const engine = await PGlite.create({ dataDir: `${directory}/db`, parsers: { [types.INT8]: Number } });
    return new PgliteDatabase(engine, claim);
  } catch (error) {
    await claim?.[Symbol.asyncDispose]();
    if (isDumontError(error)) throw error;
    const detail = error instanceof Error ? error.message : String(error);
    throw new DumontError('IO', `cannot open the embedded database in ${directory}: ${detail}`, {
      field: 'DUMONT_DATA_DIR',
      hint: 'Check that the directory is writable and its disk not full.',
      cause: error,
    });
  }
}

class PgliteDatabase implements Database {
  readonly flavour = 'pglite';
  readonly #engine: PGlite;
  readonly #claim: AsyncDisposable;
  #closed = false;

  constructor(engine: PGlite, claim: AsyncDisposable) {
    this.#engine = engine;
    this.#claim = claim;
  }

  async query(sql: string, parameters: readonly unknown[] = []): Promise<readonly Row[]> {
    const result = await this.#engine.query<Record<string, unknown>>(sql, [...parameters]);
    return result.rows;
  }

  /** PGlite runs one transaction at a time, so serialisation never fails. */
  transaction<Result>(work: (tx: Queryable) => Promise<Result>): Promise<Result> {
    return this.#engine.transaction((tx) =>
      work({
        query: async (sql, parameters = []) => {
          const result = await tx.query<Record<string, unknown>>(sql, [...parameters]);
          return result.rows;
        },
      }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#engine.close();
    await this.#claim[Symbol.asyncDispose]();
  }
}
