import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { claimDirectory } from '@dumont/control-plane/store/directory-claim.ts';
import { openDatabase } from '@dumont/control-plane/store/open-database.ts';
import { openPglite } from '@dumont/control-plane/store/pglite.ts';

const KILL_ROUNDS = 5;

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'dumont-durability-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

test('a data directory has one owner at a time, and is free again once that one is done', async () => {
  const claim = await claimDirectory(directory);
  await expect(claimDirectory(directory)).rejects.toMatchObject({
    code: 'CONFLICT',
    field: 'DUMONT_DATA_DIR',
    message: expect.stringContaining(`in use by process ${process.pid}`) as unknown,
  });
  await claim[Symbol.asyncDispose]();
  await (await claimDirectory(directory))[Symbol.asyncDispose]();
});

test('the file that a killed process left stands in nobody’s way', async () => {
  for (const stale of ['4194300', String(process.ppid), '', 'garbage']) {
    await writeFile(join(directory, 'owner.pid'), stale);
    await (await claimDirectory(directory))[Symbol.asyncDispose]();
  }
});

test('of several that claim a directory together, by whatever path, exactly one gets it', async () => {
  await symlink(directory, `${directory}-link`);
  try {
    const paths = [directory, `${directory}-link`, `${directory}/../${basename(directory)}`, directory];
    for (let round = 0; round < 20; round += 1) {
      const claims = await Promise.allSettled(paths.map((path) => claimDirectory(path)));
      const won = claims.filter((claim) => claim.status === 'fulfilled');
      expect(won).toHaveLength(1);
      for (const claim of won) await claim.value[Symbol.asyncDispose]();
    }
  } finally {
    await rm(`${directory}-link`);
  }
});

test('a database directory that cannot be made says so', async () => {
  await writeFile(join(directory, 'file'), '');
  await expect(openPglite(join(directory, 'file'))).rejects.toMatchObject({ code: 'IO', field: 'DUMONT_DATA_DIR' });
});

test(
  'killed in a write loop again and again, the embedded database keeps every acknowledged row',
  { timeout: 180_000 },
  async () => {
    const acknowledged: number[] = [];
    let next = 0;
    for (let round = 0; round < KILL_ROUNDS; round += 1) {
      const writer = spawn(
        process.execPath,
        [join(import.meta.dirname, 'pglite-writer-process.ts'), directory, String(next)],
        {
          stdio: ['ignore', 'pipe', 'inherit'],
        },
      );
      const exited = once(writer, 'exit');
      let count = 0;
      for await (const line of createInterface({ input: writer.stdout })) {
        acknowledged.push(Number(line));
        count += 1;
        if (count === 10 && round === 0) {
          await expect(openPglite(directory)).rejects.toMatchObject({ code: 'CONFLICT' });
        }
        // A different moment of the loop each round.
        if (count === 20 + round * 7) writer.kill('SIGKILL');
      }
      await exited;
      // The one in flight when it was killed may be there too.
      next = (acknowledged.at(-1) ?? 0) + 2;
    }
    expect(await readFile(join(directory, 'owner.pid'), 'utf8')).not.toBe('');
    await using db = await openDatabase({ databaseUrl: undefined, dataDirectory: directory });
    const keys = new Set((await db.query('select key from settings')).map((row) => String(row['key'])));
    const missing = acknowledged.filter((number) => !keys.has(`row-${number}`) || !keys.has(`twin-${number}`));
    expect(missing).toEqual([]);
    expect(acknowledged.length).toBeGreaterThan(KILL_ROUNDS * 20);
    const halves = [...keys].filter((key) => key.startsWith('row-') && !keys.has(key.replace('row', 'twin')));
    expect(halves).toEqual([]);
  },
);
