import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { migrate } from '@dumont/control-plane/store/migrate.ts';
import { onEachDatabase } from '../world/databases.ts';

const MIGRATIONS = join(import.meta.dirname, '../../control-plane/src/store/migrations');

onEachDatabase((database) => {
  test('migrating twice changes nothing the second time', async () => {
    await using opened = await database.open({ migrated: false });
    await migrate(opened.db);
    const once = await opened.db.query('select * from schema_migrations order by name');
    await migrate(opened.db);
    expect(await opened.db.query('select * from schema_migrations order by name')).toEqual(once);
    expect(once.length).toBeGreaterThan(0);
  });

  test('several processes may migrate an empty database together', async () => {
    await using opened = await database.open({ migrated: false });
    const others = await Promise.all(Array.from({ length: 5 }, () => opened.connect()));
    await Promise.all(others.map((db) => migrate(db)));
    const rows = await opened.db.query('select name, count(*)::int as copies from schema_migrations group by name');
    expect(rows.every((row) => row['copies'] === 1)).toBe(true);
    await Promise.all(others.map((db) => db[Symbol.asyncDispose]()));
  });

  test('machines that were rented before agents enrolled keep their secret as their credential', async () => {
    await using opened = await database.open({ migrated: false });
    const directory = await mkdtemp(join(tmpdir(), 'dumont-migrations-'));
    try {
      for (const name of ['0001-init.sql', '0002-gone-seen.sql']) {
        await copyFile(join(MIGRATIONS, name), join(directory, name));
      }
      await migrate(opened.db, directory);
      await opened.db.query(`insert into workspaces (id, name, policy, created_at) values ('ws_old', 'old', '{}', 1)`);
      await opened.db.query(
        `insert into instances (id, workspace_id, role, state, token_hash, provider, offer, requested_at)
         values ('in_old', 'ws_old', 'gpu', 'ready', 'ab', 'local', '{}', 1)`,
      );
      await migrate(opened.db);
      const rows = await opened.db.query('select credential_hash, next_credential_hash from instances');
      expect(rows).toEqual([{ credential_hash: 'ab', next_credential_hash: null }]);
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  test('a database of a newer version is refused', async () => {
    await using opened = await database.open();
    await opened.db.query(`insert into schema_migrations (name, at) values ('9999-future.sql', 0)`);
    await expect(migrate(opened.db)).rejects.toMatchObject({ code: 'CONFLICT' });
  });

  test('a migration that fails leaves nothing behind and may be repeated', async () => {
    await using opened = await database.open({ migrated: false });
    const directory = await mkdtemp(join(tmpdir(), 'dumont-migrations-'));
    try {
      const file = join(directory, '0001-two-tables.sql');
      await writeFile(file, 'create table first (id int);\ncreate table second (id nonsense);\n');
      await expect(migrate(opened.db, directory)).rejects.toThrow(/nonsense/);
      await writeFile(
        file,
        '-- fixed; with a semicolon in the comment\ncreate table first (id int);\ncreate table second (id int);\n',
      );
      await migrate(opened.db, directory);
      expect(await opened.db.query('select * from first, second')).toEqual([]);
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});
