import { mkdir, readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { RESTART_HOLD_MS } from '@dumont/control-plane/detect/watch.ts';
import { superviseAgent } from '@dumont/control-plane/providers/local/agent-supervisor.ts';
import type { AgentRelease } from '@dumont/shared/model/agent-release.ts';
import type { Workload } from '@dumont/shared/model/policy.ts';
import { CLOSE_CODES } from '@dumont/shared/protocol/version.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { systemRandom } from '@dumont/shared/util/random.ts';
import { expect, test } from 'vitest';
import { isRunning, makeHost, writeIdentity } from '../world/agent-process.ts';
import { agentScript, installVersion, releaseOf, serveBytes } from '../world/agent-release.ts';
import { AgentSocketServer, testAssignment } from '../world/agent-socket-server.ts';
import { eventually } from '../world/eventually.ts';
import { makeTempFolder } from '../world/temp-folder.ts';

const WORKLOAD: Workload = { command: 'echo up >> starts; exec sleep 600', restart: true };

/** An installed agent of version 1.0.0 under a supervisor, welcomed as primary, its workload running. */
async function installedWorld(upgradeDeadlineMs = 20_000) {
  const folder = await makeTempFolder();
  const store = join(folder.path, 'store');
  await mkdir(store);
  const server = await AgentSocketServer.start(testAssignment(store, { standing: 'primary', workload: WORKLOAD }));
  const host = await makeHost(folder.path);
  const prefix = join(folder.path, 'prefix');
  await installVersion(prefix, '1.0.0');
  writeIdentity(server.controlUrl, host);
  const stop = new AbortController();
  const logPath = join(folder.path, 'agent.log');
  const supervising = superviseAgent(
    {
      command: [join(prefix, 'current', 'dumont-agent'), 'run'],
      cwd: host.workspaceDir,
      logPath,
      installation: { prefix, stateDir: host.stateDir },
      environment: {
        PATH: process.env['PATH'] ?? '',
        DUMONT_CONTROL_URL: server.controlUrl,
        DUMONT_WORKSPACE_DIR: host.workspaceDir,
        DUMONT_STATE_DIR: host.stateDir,
        DUMONT_INSTALL_DIR: prefix,
      },
    },
    { clock: systemClock, random: systemRandom, upgradeDeadlineMs, signal: stop.signal },
  );
  const started = await server.run({ name: 'start-workload', stableMs: 50 });
  if (!started.ok || started.result.name !== 'start-workload') throw new Error('the workload does not run');
  const pid = started.result.pid ?? 0;
  const upgrade = async (release: AgentRelease, downloadUrl: string) =>
    server.run({ name: 'upgrade', release, downloadUrl, force: false });
  /** The agent's process, found by what the supervisor runs. */
  const agentPid = () => findAgent(host.stateDir, pid);
  return {
    server,
    host,
    prefix,
    pid,
    upgrade,
    agentPid,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await supervising;
      await server[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

async function findAgent(stateDir: string, workloadPid: number): Promise<number> {
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name) || Number(name) === workloadPid) continue;
    const environment = await readFile(`/proc/${name}/environ`, 'latin1').catch(() => '');
    const isAgent = environment.includes(`DUMONT_STATE_DIR=${stateDir}\0`) && environment.includes('STAMPED_VERSION');
    if (isAgent && !environment.includes('DUMONT_WORKLOAD_RUN')) return Number(name);
  }
  throw new Error('no agent runs');
}

type World = Awaited<ReturnType<typeof installedWorld>>;

/** Since the last close of a connection until the next hello, ms. */
function awayMs({ server }: World, closedAtMs: number): number {
  const back = server.arrivals.find(({ message, atMs }) => message.kind === 'hello' && atMs > closedAtMs);
  return (back?.atMs ?? Infinity) - closedAtMs;
}

async function expectUntouched({ pid, server, host }: World): Promise<void> {
  await eventually('the workload is adopted', () => server.of('heartbeat').at(-1)?.workload === 'running');
  expect(await isRunning(pid)).toBe(true);
  expect(await readFile(join(host.workspaceDir, 'starts'), 'utf8')).toBe('up\n');
}

test('an upgrade installs the version, comes back as it before anyone doubts, and the workload never notices', async () => {
  await using world = await installedWorld();
  const { server, prefix, host } = world;
  const { release, gz } = releaseOf('1.1.0', agentScript('1.1.0'));
  await using downloads = await serveBytes(gz);
  expect(await world.upgrade(release, downloads.url)).toEqual({
    ok: true,
    result: { name: 'upgrade', from: '1.0.0', to: '1.1.0' },
  });
  const answeredMs =
    server.arrivals.find(
      ({ message }) =>
        message.kind === 'command-result' && message.outcome.ok && message.outcome.result.name === 'upgrade',
    )?.atMs ?? 0;
  const hello = await server.waitFor('hello', 2);
  expect(hello).toMatchObject({
    agentVersion: '1.1.0',
    upgradable: true,
    lastUpgrade: { from: '1.0.0', to: '1.1.0', outcome: 'upgraded' },
  });
  expect(awayMs(world, answeredMs)).toBeLessThan(RESTART_HOLD_MS);
  expect(server.closes[0]?.code).toBe(CLOSE_CODES.restarting);
  await expectUntouched(world);
  expect(await readlink(join(prefix, 'current'))).toBe(join('versions', '1.1.0'));
  const files = await readdir(join(prefix, 'versions', '1.1.0'));
  expect(files.sort()).toEqual(['dumont-agent', 'dumont-supervisor', 'install.sh']);
  await eventually('the upgrade is settled', async () => !(await readdir(host.stateDir)).includes('upgrade.pending'));

  const next = releaseOf('1.2.0', agentScript('1.2.0'));
  await using newer = await serveBytes(next.gz);
  expect(await world.upgrade(next.release, newer.url)).toMatchObject({ ok: true });
  await server.waitFor('hello', 3);
  await eventually('one older version is kept', async () => {
    return (await readdir(join(prefix, 'versions'))).sort().join(' ') === '1.1.0 1.2.0';
  });
  await expectUntouched(world);
});

test('a version that crashes twice is rolled back, which the old one tells once and will not try again', async () => {
  await using world = await installedWorld();
  const { server, prefix, host } = world;
  const { release, gz } = releaseOf('1.1.0', agentScript('1.1.0', 'exit 9'));
  await using downloads = await serveBytes(gz);
  expect(await world.upgrade(release, downloads.url)).toMatchObject({ ok: true });
  const hello = await server.waitFor('hello', 2);
  expect(hello).toMatchObject({
    agentVersion: '1.0.0',
    lastUpgrade: { from: '1.0.0', to: '1.1.0', outcome: 'rolled-back', reason: 'it ended with exit code 9 twice' },
  });
  expect(await readlink(join(prefix, 'current'))).toBe(join('versions', '1.0.0'));
  await expectUntouched(world);
  await eventually('it was told', async () => {
    return !(await readdir(host.stateDir)).some((name) => name.startsWith('upgrade.'));
  });
  expect(await world.upgrade(release, downloads.url)).toMatchObject({ ok: false, code: 'CONFLICT' });
  server.dropAll();
  expect((await server.waitFor('hello', 3)).lastUpgrade).toBeUndefined();
});

test('a version that is never welcomed is rolled back when its time is over', async () => {
  await using world = await installedWorld(1_500);
  const { release, gz } = releaseOf('1.1.0', agentScript('1.1.0', 'exec sleep 60'));
  await using downloads = await serveBytes(gz);
  expect(await world.upgrade(release, downloads.url)).toMatchObject({ ok: true });
  const hello = await world.server.waitFor('hello', 2);
  expect(hello).toMatchObject({ agentVersion: '1.0.0', lastUpgrade: { outcome: 'rolled-back' } });
  expect(hello.lastUpgrade?.reason).toContain('not welcomed');
  await expectUntouched(world);
});

test('after SIGHUP another process of the agent goes on, announced; after SIGKILL as well, unannounced', async () => {
  await using world = await installedWorld();
  const { server } = world;
  process.kill(await world.agentPid(), 'SIGHUP');
  const second = await server.waitFor('hello', 2);
  expect(server.closes[0]?.code).toBe(CLOSE_CODES.restarting);
  await expectUntouched(world);
  process.kill(await world.agentPid(), 'SIGKILL');
  const third = await server.waitFor('hello', 3);
  expect(server.closes[1]?.code).toBe(1006);
  await expectUntouched(world);
  const [first] = server.hellos();
  expect(new Set([first?.bootId, second.bootId, third.bootId]).size).toBe(3);
  expect(new Set([first?.instanceId, second.instanceId, third.instanceId]).size).toBe(1);
  expect(third.lastEpoch).toBe(1);
});

test('a refused token ends the agent for a while, not its workload', async () => {
  await using world = await installedWorld();
  const { server, pid } = world;
  const words = { code: 'UNAUTHORIZED', message: 'no' } as const;
  server.refusal = { refused: words, closeCode: CLOSE_CODES.unauthorized };
  server.dropAll();
  await server.waitFor('hello', 2);
  await eventually('the agent is gone', async () => {
    return world.agentPid().then(
      () => false,
      () => true,
    );
  });
  expect(await isRunning(pid)).toBe(true);
  process.kill(-pid, 'SIGKILL');
});
