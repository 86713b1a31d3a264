import { randomBytes } from 'node:crypto';
import { lstat, readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { must } from '@dumont/shared/util/assert.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { tryParseJson } from '@dumont/shared/util/try-json.ts';
import { expect, test } from 'vitest';
import { startS3Simulator } from '../simulators/s3/s3-simulator.ts';
import { ControlPlaneProcess } from '../world/control-plane-process.ts';
import { eventually } from '../world/eventually.ts';
import { machineProcesses, Site } from '../world/site.ts';

/** The only files that may hold a secret, and only when nobody but their owner can read them. */
const MAY_HOLD_SECRETS: ReadonlySet<string> = new Set([
  'machine.json', // what a local machine is started with, as a marketplace would keep it
  'credential.json', // an agent's own
  'api-token',
  'connection.json',
]);
const OTHERS_MAY_READ = 0o044;
const SAMPLE_MS = 20;
/** Marks the workload among the processes. */
const COMMAND = 'test -f plan || echo plan > plan; exec sleep 456789';

const random = (name: string) => `${name}-${randomBytes(12).toString('hex')}`;

/** Secrets by what they are. */
type Secrets = Map<string, string>;

/** Where a secret was seen: `what in where`. */
function findings(secrets: Secrets, where: string, content: string): string[] {
  return [...secrets].filter(([, value]) => content.includes(value)).map(([what]) => `${what} in ${where}`);
}

/** What was drawn for machines while they lived: their tokens and credentials. */
async function learnDrawn(site: Site, secrets: Secrets): Promise<void> {
  for (const path of await filesBelow(site.folder)) {
    if (!['machine.json', 'credential.json'].includes(basename(path))) continue;
    const content = tryParseJson(await readFile(path, 'utf8').catch(() => '')) as Record<string, unknown> | undefined;
    const values = Object.entries({ ...content, ...(content?.['agentEnvironment'] as object | undefined) });
    for (const [name, value] of values) {
      if (typeof value === 'string' && /(?:token|credential)$/i.test(name))
        secrets.set(`${name} ${value.slice(0, 4)}…`, value);
    }
  }
}

async function filesBelow(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name));
}

async function searchFiles(folder: string, secrets: Secrets): Promise<readonly string[]> {
  const found = await Promise.all(
    (await filesBelow(folder)).map(async (path) => {
      const [stats, content] = await Promise.all([lstat(path), readFile(path, 'latin1')]).catch(() => []);
      if (stats === undefined || content === undefined) return [];
      const isClosed = (stats.mode & OTHERS_MAY_READ) === 0;
      return MAY_HOLD_SECRETS.has(basename(path)) && isClosed ? [] : findings(secrets, path, content);
    }),
  );
  return found.flat();
}

/** Every command line on this computer, again and again until stopped. */
function watchCommandLines(): AsyncDisposable & { readonly stop: () => Promise<ReadonlySet<string>> } {
  const seen = new Set<string>();
  const stopped = new AbortController();
  const look = async () => {
    while (!stopped.signal.aborted) {
      const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
      const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '')));
      for (const line of lines) seen.add(line);
      await systemClock.sleep(SAMPLE_MS, stopped.signal).catch(() => {});
    }
    return seen;
  };
  const looking = look();
  const stop = () => {
    stopped.abort();
    return looking;
  };
  return {
    stop,
    async [Symbol.asyncDispose]() {
      await stop();
    },
  };
}

/** Everything the API tells. */
async function apiAnswers({ client }: Site): Promise<ReadonlyMap<string, string>> {
  const answers = await Promise.all([
    client.call('health'),
    client.call('listWorkspaces'),
    client.call('listInstances'),
    client.call('listSnapshots', { query: { workspace: 'secret' } }),
    client.call('listFailovers', { query: { workspace: 'secret' } }),
    client.call('listOperations'),
    client.call('listLedger'),
    client.call('listEvents', { query: { limit: 200 } }),
  ]);
  return new Map(answers.map((answer, index) => [`answer ${index} of the API`, JSON.stringify(answer)]));
}

test('through the life of a workspace and a failover no secret shows where others can see it', async () => {
  const secrets: Secrets = new Map([
    ['password', random('password')],
    ['key id', random('keyid')],
    ['application key', random('appkey')],
  ]);
  const secret = (name: string) => must(secrets.get(name), 'it is in the list');
  const credentials = { accessKeyId: secret('key id'), secretAccessKey: secret('application key') };
  await using simulator = await startS3Simulator({ buckets: ['snapshots'], ...credentials });
  await using site = await Site.make();
  secrets.set('API token', must(site.environment()['DUMONT_API_TOKEN'], 'a site has one'));
  await using commandLines = watchCommandLines();
  await using controlPlane = await ControlPlaneProcess.start(site, undefined, {
    SNAPSHOT_PASSWORD: secret('password'),
    STORAGE_PROVIDER: 'minio',
    MINIO_ENDPOINT: simulator.endpoint,
    MINIO_BUCKET: 'snapshots',
    MINIO_KEY_ID: secret('key id'),
    MINIO_APPLICATION_KEY: secret('application key'),
    DUMONT_LOG_LEVEL: 'debug',
  });
  const view = () => site.client.call('getWorkspace', { params: { workspace: 'secret' } });
  const policy = { raceWidth: 1, snapshotIntervalMs: 500, workload: { command: COMMAND } };
  await site.client.call('provision', { body: { name: 'secret', policy } });
  const primaryId = await eventually('it is served', async () => (await view()).primaryInstanceId, 60_000);
  const primary = await site.client.call('getInstance', { params: { instanceId: primaryId } });
  await eventually(
    'the plan is in a snapshot',
    async () => {
      const { items } = await site.client.call('listSnapshots', { query: { workspace: 'secret' } });
      return items.some(({ fileCount }) => fileCount > 0);
    },
    30_000,
  );
  await learnDrawn(site, secrets);
  await site.faults.lose(must(primary.providerRef, 'it was rented'), 'kill');
  await eventually(
    'another machine serves it',
    async () => {
      const { primaryInstanceId } = await view();
      return primaryInstanceId !== null && primaryInstanceId !== primaryId;
    },
    60_000,
  );
  const workers = await eventually(
    'the workload goes on',
    async () => {
      const running = (await machineProcesses()).filter(({ commandLine }) => commandLine.startsWith('sleep 456789'));
      return running.length > 0 && running;
    },
    60_000,
  );
  await learnDrawn(site, secrets);
  // The machines' tokens were found, or this test looks for less than it says.
  expect(secrets.size).toBeGreaterThan(4);

  const found = [
    ...(await searchFiles(site.folder, secrets)),
    ...findings(secrets, 'the log of the control plane', controlPlane.log),
    ...[...(await commandLines.stop())].flatMap((line) =>
      findings(secrets, `the command line ${line.slice(0, 80)}`, line),
    ),
    ...workers.flatMap(({ environment }) => findings(secrets, 'the environment of the workload', environment)),
    ...[...(await apiAnswers(site))].flatMap(([where, answer]) => findings(secrets, where, answer)),
    ...[...simulator.objects('snapshots')].flatMap(([key, bytes]) => findings(secrets, key, bytes.toString('latin1'))),
  ];
  expect(found).toEqual([]);
});
