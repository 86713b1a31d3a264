import { Pool, TypeOverrides, types } from 'pg';
import type { PoolClient } from 'pg';
import { assert } from '@dumont/shared/util/assert.ts';
import { backoffMs } from '@dumont/shared/util/backoff.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import { systemRandom } from '@dumont/shared/util/random.ts';
import type { Database, Queryable, Row } from './database.ts';
import { MAX_TRANSACTION_ATTEMPTS, TRANSACTION_BACKOFF, isSerializationFailure } from './serialization.ts';
import { wrapConnectionFailure } from './connection-failure.ts';

/** Connections per process: the control plane's statements are short, PostgreSQL's default limit is 100 for all replicas. */
const MAX_CONNECTIONS = 10;
const CONNECT_TIMEOUT_MS = 5_000;
/** Our statements take milliseconds; one that takes this long waits for something that will not come. */
const STATEMENT_TIMEOUT_MS = 30_000;
/** The server ended the statement by then, unless it or the network is gone. */
const ANSWER_TIMEOUT_MS = STATEMENT_TIMEOUT_MS + 5_000;
/** A frozen process must not keep the locks of its open transaction: every writer of events waits for one of them. */
const IDLE_IN_TRANSACTION_TIMEOUT_MS = 5_000;

/**
 * Opens a pool on a PostgreSQL server.
 * @param options clock and randomness of the pauses between repeated transactions; the system's by default
 * @throws {DumontError} UNAVAILABLE when it cannot be reached; the URL's password is not repeated
 */
export async function openPostgres(
  databaseUrl: string,
  options: { readonly clock: Clock; readonly random: Random } = { clock: systemClock, random: systemRandom },
): Promise<Database> {
  const parsers = new TypeOverrides();
  parsers.setTypeParser(types.builtins.INT8, parseSafeInteger);
  const pool = new Pool({
    connectionString: databaseUrl,
    max: MAX_CONNECTIONS,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    statement_timeout: STATEMENT_TIMEOUT_MS,
    query_timeout: ANSWER_TIMEOUT_MS,
    idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_TIMEOUT_MS,
    types: parsers,
  });
  // An idle connection that breaks is replaced by the pool; the next query reports what matters.
  pool.on('error', () => {});
  // One that breaks while it is lent emits too, between statements even with nobody waiting; the next statement reports it.
  pool.on('connect', (client) => client.on('error', () => {}));
  try {
    await pool.query('select 1');
  } catch (error) {
    await pool.end();
    const detail = error instanceof Error ? error.message : String(error);
    throw new DumontError('UNAVAILABLE', `cannot reach PostgreSQL: ${detail}`, {
      field: 'DATABASE_URL',
      hint: 'Check DATABASE_URL, or unset it to use the embedded database.',
      cause: error,
    });
  }
  return new PostgresDatabase(pool, options);
}

function parseSafeInteger(text: string): number {
  const value = Number(text);
  assert(Number.isSafeInteger(value), `bigint ${text} is beyond 2^53`);
  return value;
}

/** Not a defect: the same work may succeed when the rush is over. */
function crowdedOut(error: unknown): DumontError {
  const message = `the database put other transactions first ${MAX_TRANSACTION_ATTEMPTS} times`;
  return new DumontError('UNAVAILABLE', message, { retryable: true, cause: error });
}

class PostgresDatabase implements Database {
  readonly flavour = 'postgres';
  readonly #pool: Pool;
  readonly #clock: Clock;
  readonly #random: Random;
  #closed = false;

  constructor(pool: Pool, { clock, random }: { readonly clock: Clock; readonly random: Random }) {
    this.#pool = pool;
    this.#clock = clock;
    this.#random = random;
  }

  async query(sql: string, parameters: readonly unknown[] = []): Promise<readonly Row[]> {
    try {
      const result = await this.#pool.query<Record<string, unknown>>(sql, [...parameters]);
      return result.rows;
    } catch (error) {
      throw wrapConnectionFailure(error);
    }
  }

  async transaction<Result>(work: (tx: Queryable) => Promise<Result>): Promise<Result> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#attempt(work);
      } catch (error) {
        if (!isSerializationFailure(error)) throw wrapConnectionFailure(error);
        if (attempt >= MAX_TRANSACTION_ATTEMPTS) throw crowdedOut(error);
      }
      // Rivals that repeat in step would meet again.
      await this.#clock.sleep(backoffMs(attempt - 1, TRANSACTION_BACKOFF, this.#random));
    }
  }

  async #attempt<Result>(work: (tx: Queryable) => Promise<Result>): Promise<Result> {
    const client = await this.#pool.connect();
    let broken: Error | undefined;
    try {
      await client.query('begin isolation level serializable');
      const result = await work({ query: (sql, parameters) => queryOn(client, sql, parameters) });
      await client.query('commit');
      return result;
    } catch (error) {
      try {
        await client.query('rollback');
      } catch (rollbackError) {
        // The connection is unusable: hand it back as broken, and report the error that came first.
        broken = rollbackError instanceof Error ? rollbackError : new Error(String(rollbackError));
      }
      throw error;
    } finally {
      client.release(broken);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#pool.end();
  }
}

async function queryOn(client: PoolClient, sql: string, parameters: readonly unknown[] = []): Promise<readonly Row[]> {
  const result = await client.query<Record<string, unknown>>(sql, [...parameters]);
  return result.rows;
}
