import { mkdir } from 'node:fs/promises';
import { setImmediate as nextTurn } from 'node:timers/promises';
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

/** The same in memory, gone with the process: for simulations, which care for the rules and not for the disk. */
export async function openMemoryPglite(): Promise<Database> {
  const engine = await PGlite.create({ parsers: { [types.INT8]: Number } });
  return new PgliteDatabase(engine, { [Symbol.asyncDispose]: () => Promise.resolve() });
}

/**
 * The engine computes on this thread and answers in microtasks, so that a run of queries would keep sockets and timers
 * waiting until its end. Each call therefore ends in a turn of the event loop of its own: heartbeats are read in between.
 */
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
    try {
      const result = await this.#engine.query<Record<string, unknown>>(sql, [...parameters]);
      return result.rows;
    } finally {
      await nextTurn();
    }
  }

  /** PGlite runs one transaction at a time, so serialisation never fails. */
  async transaction<Result>(work: (tx: Queryable) => Promise<Result>): Promise<Result> {
    try {
      return await this.#engine.transaction((tx) =>
        work({
          query: async (sql, parameters = []) => {
            const result = await tx.query<Record<string, unknown>>(sql, [...parameters]);
            return result.rows;
          },
        }),
      );
    } finally {
      await nextTurn();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#engine.close();
    await this.#claim[Symbol.asyncDispose]();
  }
}
