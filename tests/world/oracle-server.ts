import { execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdir } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { eventually } from './eventually.ts';
import { makeTempFolder } from './temp-folder.ts';

/** A real S3 server by others, to check that our simulator and our client do not share one mistake. */
const ORACLE = 'github.com/versity/versitygw/cmd/versitygw@v1.7.0';
/** Kept between runs: building takes two minutes. */
const BIN_FOLDER = join(tmpdir(), 'dumont-oracles');
const BIN = join(BIN_FOLDER, 'versitygw');
const BUILD_TIMEOUT_MS = 400_000;

export const ORACLE_CREDENTIALS = { accessKeyId: 'oracle', secretAccessKey: 'oracle-secret' };

/** Why the oracle cannot run here; undefined when it can. Builds nothing. */
export function oracleObstacle(): string | undefined {
  if (process.env['DUMONT_ORACLES'] === 'off') return 'DUMONT_ORACLES=off';
  const isBuilt = spawnSync(BIN, ['--version'], { stdio: 'ignore' }).status === 0;
  if (isBuilt) return undefined;
  return spawnSync(goCommand(), ['version'], { stdio: 'ignore' }).status === 0
    ? undefined
    : 'there is no Go to build it';
}

export interface OracleServer extends AsyncDisposable {
  readonly endpoint: string;
}

/** The oracle with one bucket `snapshots`, built first when it is not there. */
export async function startOracle(): Promise<OracleServer> {
  await buildOnce();
  const folder = await makeTempFolder();
  await mkdir(join(folder.path, 'data', 'snapshots'), { recursive: true });
  await mkdir(join(folder.path, 'iam'));
  const port = await freePort();
  const args = [
    '--port',
    `127.0.0.1:${port}`,
    '--iam-dir',
    join(folder.path, 'iam'),
    'posix',
    join(folder.path, 'data'),
  ];
  const { accessKeyId, secretAccessKey } = ORACLE_CREDENTIALS;
  const server = spawn(BIN, args, {
    stdio: 'ignore',
    env: { ...process.env, ROOT_ACCESS_KEY: accessKeyId, ROOT_SECRET_KEY: secretAccessKey },
  });
  const exited = once(server, 'exit');
  const endpoint = `http://127.0.0.1:${port}`;
  await eventually('the S3 server answers', () =>
    fetch(endpoint).then(
      () => true,
      () => false,
    ),
  );
  return {
    endpoint,
    async [Symbol.asyncDispose]() {
      server.kill();
      await exited;
      await folder[Symbol.asyncDispose]();
    },
  };
}

async function buildOnce(): Promise<void> {
  const isBuilt = await access(BIN).then(
    () => true,
    () => false,
  );
  if (isBuilt) return;
  await mkdir(BIN_FOLDER, { recursive: true });
  await promisify(execFile)(goCommand(), ['install', ORACLE], {
    env: { ...process.env, GOBIN: BIN_FOLDER },
    timeout: BUILD_TIMEOUT_MS,
  });
}

function goCommand(): string {
  return spawnSync('go', ['version'], { stdio: 'ignore' }).status === 0 ? 'go' : '/usr/local/go/bin/go';
}

async function freePort(): Promise<number> {
  const probe = createServer();
  probe.listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  return port;
}
