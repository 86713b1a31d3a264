import { execFile, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { DumontError } from '@dumont/shared/util/errors.ts';

const run = promisify(execFile);

export interface PostgresServer extends AsyncDisposable {
  /** Of the maintenance database, by a superuser: other databases are created from here. */
  readonly url: string;
}

/**
 * Starts a private PostgreSQL in a temporary directory, reachable only by a Unix socket inside it. Nothing is flushed
 * to disk: it serves tests. Disposing stops it and removes the directory.
 * @param binaries folder with `initdb` and `postgres`, from {@link findPostgresBinaries}
 * @throws {DumontError} UNAVAILABLE with the server's own words when it does not come up
 */
export async function startPostgres(binaries: string): Promise<PostgresServer> {
  const directory = await mkdtemp(join(tmpdir(), 'dumont-pg-'));
  try {
    const user = await serverUser();
    if (user !== undefined) await chown(directory, user.uid, user.gid);
    await chmod(directory, 0o700);
    const data = join(directory, 'data');
    const options = { cwd: directory, ...user };
    await run(
      join(binaries, 'initdb'),
      ['-D', data, '-U', 'dumont', '--auth=trust', '--no-sync', '--encoding=UTF8', '--locale=C'],
      options,
    );
    const server = spawn(join(binaries, 'postgres'), ['-D', data, '-k', directory, ...SETTINGS], {
      ...options,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    await untilReady(server);
    return {
      url: `postgres://dumont@localhost/postgres?host=${encodeURIComponent(directory)}`,
      [Symbol.asyncDispose]: async () => {
        await stop(server);
        await rm(directory, { recursive: true, force: true });
      },
    };
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw error;
  }
}

/** Folder of the newest PostgreSQL that Debian's packages installed; undefined without one. */
export async function findPostgresBinaries(root = '/usr/lib/postgresql'): Promise<string | undefined> {
  const versions: readonly string[] = await readdir(root).catch(() => []);
  for (const version of versions.toSorted((a, b) => Number(b) - Number(a))) {
    const folder = join(root, version, 'bin');
    const files: readonly string[] = await readdir(folder).catch(() => []);
    if (files.includes('initdb') && files.includes('postgres')) return folder;
  }
  return undefined;
}

/** No network, no flushing, and room for every test file's pools. */
const SETTINGS = [
  'listen_addresses=',
  'fsync=off',
  'synchronous_commit=off',
  'full_page_writes=off',
  'max_connections=300',
].flatMap((setting) => ['-c', setting]);

/** PostgreSQL refuses to run as root: then it runs as `postgres`, else as `nobody`. */
async function serverUser(): Promise<{ readonly uid: number; readonly gid: number } | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  for (const name of ['postgres', 'nobody']) {
    const ids = await Promise.all([run('id', ['-u', name]), run('id', ['-g', name])]).catch(() => undefined);
    if (ids !== undefined) return { uid: Number(ids[0].stdout), gid: Number(ids[1].stdout) };
  }
  throw new DumontError('UNSUPPORTED', 'PostgreSQL does not run as root, and there is no user postgres or nobody');
}

async function untilReady(server: ChildProcess): Promise<void> {
  const said: string[] = [];
  if (server.stderr === null) throw new DumontError('INTERNAL', 'the PostgreSQL server has no stderr');
  for await (const line of createInterface({ input: server.stderr })) {
    if (line.includes('ready to accept connections')) {
      // Drained from here on, so that a full pipe never stops the server.
      server.stderr.resume();
      return;
    }
    said.push(line);
  }
  throw new DumontError('UNAVAILABLE', `PostgreSQL did not start: ${said.slice(-10).join('\n')}`);
}

/** SIGQUIT is PostgreSQL's immediate shutdown; what it leaves on disk is thrown away. */
async function stop(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return;
  const exited = once(server, 'exit');
  server.kill('SIGQUIT');
  await exited;
}
