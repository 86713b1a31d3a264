import { Pool, types } from 'pg';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { assert } from '@dumont/shared/util/assert.ts';
import type { Database, Queryable, Row } from './database.ts';
import { MAX_TRANSACTION_ATTEMPTS, isSerializationFailure } from './serialization.ts';

/** Connections per process: the control plane's statements are short, PostgreSQL's default limit is 100 for all replicas. */
const MAX_CONNECTIONS = 10;
const CONNECT_TIMEOUT_MS = 5_000;

/** Opens a pool on a PostgreSQL server. @throws {DumontError} UNAVAILABLE when it cannot be reached; the URL's password is not repeated. */
export async function openPostgres(databaseUrl: string): Promise<Database> {
  const pool = new Pool({
    connectionString: databaseUrl,
    max: MAX_CONNECTIONS,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    types: {
      getTypeParser: (oid: number, format?: 'text' | 'binary') =>
        oid === INT8_OID ? parseSafeInteger : types.getTypeParser(oid, format),
    },
  });
  // An idle connection that breaks is replaced by the pool; the next query reports what matters.
  pool.on('error', () => {});
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
  return new PostgresDatabase(pool);
}

const INT8_OID = 20;

function parseSafeInteger(text: string): number {
  const value = Number(text);
  assert(Number.isSafeInteger(value), `bigint ${text} is beyond 2^53`);
  return value;
}

class PostgresDatabase implements Database {
  readonly flavour = 'postgres';
  readonly #pool: Pool;
  #closed = false;

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  async query(sql: string, parameters: readonly unknown[] = []): Promise<readonly Row[]> {
    const result = await this.#pool.query<Record<string, unknown>>(sql, [...parameters]);
    return result.rows;
  }

  async transaction<Result>(work: (tx: Queryable) => Promise<Result>): Promise<Result> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#attempt(work);
      } catch (error) {
        if (attempt >= MAX_TRANSACTION_ATTEMPTS || !isSerializationFailure(error)) throw error;
      }
    }
  }

  async #attempt<Result>(work: (tx: Queryable) => Promise<Result>): Promise<Result> {
    const client = await this.#pool.connect();
    let broken: Error | undefined;
    try {
      await client.query('begin isolation level serializable');
      const result = await work({
        query: async (sql, parameters = []) => {
          const answer = await client.query<Record<string, unknown>>(sql, [...parameters]);
          return answer.rows;
        },
      });
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
