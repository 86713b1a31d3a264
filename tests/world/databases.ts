import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, inject } from 'vitest';
import type { Database } from '@dumont/control-plane/store/database.ts';
import { migrate } from '@dumont/control-plane/store/migrate.ts';
import { openPglite } from '@dumont/control-plane/store/pglite.ts';
import { openPostgres } from '@dumont/control-plane/store/postgres.ts';
import { assert, must } from '@dumont/shared/util/assert.ts';

/** An empty database of one test. */
export interface TestDatabase extends AsyncDisposable {
  readonly db: Database;
  /** A connection as another process would have it; on PGlite, which has one process, the same engine. The caller disposes it. */
  connect(): Promise<Database>;
  /** For child processes; undefined on PGlite. */
  readonly url: string | undefined;
}

export interface DatabaseUnderTest {
  readonly flavour: Database['flavour'];
  /** A fresh database, migrated unless asked otherwise. On PGlite only one may be open at a time in a test file. */
  open(options?: { readonly migrated: boolean }): Promise<TestDatabase>;
}

/** Runs a suite on PGlite and on real PostgreSQL; without a PostgreSQL its half is left out by a name that says why. */
export function onEachDatabase(suite: (database: DatabaseUnderTest) => void): void {
  describe('on PGlite', () => {
    const engines = new PgliteEngines();
    // In a hook's time: on a busy machine the start alone takes longer than a test may.
    beforeAll(() => engines.start());
    afterAll(() => engines[Symbol.asyncDispose]());
    suite({ flavour: 'pglite', open: (options = { migrated: true }) => engines.open(options) });
  });
  onPostgres(suite);
}

/** The same for what needs several processes, or a server that can be hurt. */
export function onPostgres(suite: (database: DatabaseUnderTest) => void): void {
  const url = inject('postgresUrl');
  const name = url === null ? `on PostgreSQL (left out: ${inject('postgresAbsence')})` : 'on PostgreSQL';
  describe.skipIf(url === null)(name, () => {
    suite({ flavour: 'postgres', open: (options = { migrated: true }) => openOnServer(url ?? '', options) });
  });
}

/** Databases on the server that have this process's name, so that parallel test files do not collide. */
let created = 0;

async function openOnServer(serverUrl: string, options: { readonly migrated: boolean }): Promise<TestDatabase> {
  created += 1;
  const name = `dumont_test_${process.pid}_${created}`;
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  const administer = async (sql: string) => {
    await using admin = await openPostgres(serverUrl);
    await admin.query(sql);
  };
  await administer(`create database ${name} template template0`);
  const db = await openPostgres(url.href);
  if (options.migrated) await migrate(db);
  return {
    db,
    url: url.href,
    connect: () => openPostgres(url.href),
    [Symbol.asyncDispose]: async () => {
      await db[Symbol.asyncDispose]();
      await administer(`drop database ${name} with (force)`);
    },
  };
}

/** Opening a PGlite takes a second, emptying one takes milliseconds: a test file shares one. */
class PgliteEngines implements AsyncDisposable {
  #directory: string | undefined;
  #engine: Database | undefined;
  #isLent = false;

  async start(): Promise<void> {
    this.#directory = await mkdtemp(join(tmpdir(), 'dumont-pglite-'));
    this.#engine = await openPglite(this.#directory);
  }

  async open(options: { readonly migrated: boolean }): Promise<TestDatabase> {
    assert(!this.#isLent, 'one PGlite at a time: dispose the other first');
    this.#isLent = true;
    const engine = must(this.#engine, 'the engine was started');
    await engine.query('drop schema public cascade');
    await engine.query('create schema public');
    if (options.migrated) await migrate(engine);
    const borrowed: Database = {
      flavour: engine.flavour,
      query: (sql, parameters) => engine.query(sql, parameters),
      transaction: (work) => engine.transaction(work),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    };
    return {
      db: borrowed,
      url: undefined,
      connect: () => Promise.resolve(borrowed),
      [Symbol.asyncDispose]: () => {
        this.#isLent = false;
        return Promise.resolve();
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#engine?.[Symbol.asyncDispose]();
    if (this.#directory !== undefined) await rm(this.#directory, { recursive: true, force: true });
  }
}
