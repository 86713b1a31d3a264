import { cp, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { RESTART_HOLD_MS } from '@dumont/control-plane/detect/watch.ts';
import type { CredentialRecord } from '@dumont/agent/identity/credential-file.ts';
import { createApiClient, type ApiClient } from '@dumont/shared/api/client.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { expect, test } from 'vitest';
import { builtAgent } from '../world/agent-build.ts';
import { eventually } from '../world/eventually.ts';
import { canSeal, startSealedHost, type SealedHost } from '../world/sealed-host.ts';
import { makeRelease } from '../world/stand-in-release.ts';

/** The product as a user meets it: a control plane, its own install.sh, the built executable, a container without systemd. */

const sealed = test.skipIf(!(await canSeal()));
const MAIN = join(import.meta.dirname, '../../control-plane/src/main.ts');
const API_TOKEN = 'an-api-token-that-nobody-may-see';
const PASSWORD = 'a-password-that-nobody-may-see';
const SUPERVISOR = '/opt/dumont-agent/current/dumont-supervisor';
/** As an upgrade and a crash may not touch it, it says who it is. */
const WORKLOAD = 'echo $$ >> /mnt/workload.pids; exec sleep 100000';
const VERSION_FAULTY = '0.9.0';

interface World {
  readonly machine: SealedHost;
  readonly version: string;
  readonly client: ApiClient;
}

async function startWorld(stack: AsyncDisposableStack): Promise<World> {
  const [agent, newer] = [await builtAgent(), await builtAgent({ suffix: 'newer' })];
  const serve = async (folder: string) => {
    const downloads = join(folder, 'downloads');
    await mkdir(downloads);
    await cp(agent.directory, join(downloads, agent.version), { recursive: true });
    await cp(newer.directory, join(downloads, newer.version), { recursive: true });
    await makeRelease(folder, { version: VERSION_FAULTY, conduct: 'crashes' });
  };
  const environment = (folder: string) => ({
    HOME: folder,
    DUMONT_DATA_DIR: `${folder}/data`,
    DUMONT_DOWNLOADS_DIR: `${folder}/downloads`,
    DUMONT_API_TOKEN: API_TOKEN,
    DUMONT_LOCAL_PROVIDER: 'false',
  });
  const command = (folder: string) => {
    const words = Object.entries(environment(folder)).map(([name, value]) => `${name}='${value}'`);
    return `${words.join(' ')} ${process.execPath} ${MAIN}`;
  };
  const server = { command, ready: 'control-plane.ready', shared: { '/mnt/objects': 'data/objects' } };
  const machine = stack.use(await startSealedHost({ serve, server }));
  const client = createApiClient({ baseUrl: 'http://127.0.0.1:8766', token: API_TOKEN, fetch: fetchInside(machine) });
  return { machine, version: agent.version, client };
}

/** The host's network is its own: requests are made inside it. */
function fetchInside(machine: SealedHost): typeof globalThis.fetch {
  return async (input, init) => {
    const request = new Request(input, init);
    const headers = [...request.headers].map(([name, value]) => `-H '${name}: ${value}'`);
    const body = request.body === null ? '' : `-d '${await request.text()}'`;
    const said = await machine.ok(
      `curl -sS -X ${request.method} ${headers.join(' ')} ${body} -w '\\n%{http_code}' '${request.url}'`,
    );
    const end = said.lastIndexOf('\n');
    return new Response(said.slice(0, end), { status: Number(said.slice(end + 1)) });
  };
}

/** Adds a machine and runs the very command that the control plane answers. */
async function install({ machine, version, client }: World) {
  const policy = { snapshotIntervalMs: 1_000, workload: { command: WORKLOAD } };
  const added = await client.call('addMachine', { body: { workspace: 'lab', policy } });
  const env = { DUMONT_FILE_STORE_MOUNT: '/mnt/objects', SNAPSHOT_PASSWORD: PASSWORD };
  await machine.ok('mkdir /workspace && echo precious >/workspace/notes.txt');
  const command = added.installCommand.replace('sh -s --', `sh -s -- --version ${version}`);
  const said = await machine.ok(command, { env });
  expect(said).toContain(`dumont-agent ${version} is installed.`);
  await eventually('the workload runs', async () => (await machine.run('test -s /mnt/workload.pids')).exitCode === 0);
  return added;
}

async function eventTypes(client: ApiClient): Promise<readonly string[]> {
  const { items } = await client.call('listEvents', { query: { limit: 500 } });
  return items.map(({ type }) => type);
}

async function agentPid(machine: SealedHost): Promise<string> {
  return (await machine.ok('cat /var/lib/dumont-agent/agent.pid')).split(' ')[0] ?? '';
}

/** All process ids the workload ever had. */
async function workloadPids(machine: SealedHost): Promise<readonly string[]> {
  return (await machine.ok('cat /mnt/workload.pids')).trim().split('\n');
}

function welcomes(log: string): number {
  return log.split('"event":"welcomed"').length - 1;
}

async function agentLog(machine: SealedHost): Promise<string> {
  return machine.ok('cat /var/lib/dumont-agent/log/agent.log');
}

sealed(
  'one command brings a container under protection; a killed agent is back at once and disturbs nothing',
  { timeout: 300_000 },
  async () => {
    await using stack = new AsyncDisposableStack();
    const world = await startWorld(stack);
    const { machine, client } = world;
    const before = await machine.tree();
    const { enrolToken } = await install(world);
    const [pids, first] = [await workloadPids(machine), await agentPid(machine)];
    await eventually(
      'it has a snapshot',
      async () => (await client.call('listSnapshots', { query: { workspace: 'lab' } })).items.length > 0,
    );

    const begunMs = systemClock.monotonicMs();
    await machine.ok(`kill -9 ${first}`);
    await eventually('it was welcomed again', async () => welcomes(await agentLog(machine)) === 2);
    expect(systemClock.monotonicMs() - begunMs).toBeLessThan(3_000);
    expect(await agentPid(machine)).not.toBe(first);

    expect((await client.call('listFailovers')).items).toEqual([]);
    expect(await workloadPids(machine)).toEqual(pids);
    await machine.ok(`kill -0 ${pids[0]}`);

    // A stolen token is of no use, and its owner hears of the attempt.
    const theft = await machine.run('dumont-agent enrol', {
      env: {
        DUMONT_ENROL_TOKEN: enrolToken,
        DUMONT_CONTROL_URL: 'http://127.0.0.1:8766',
        DUMONT_STATE_DIR: '/tmp/thief',
      },
    });
    expect(theft.exitCode).not.toBe(0);
    expect(await eventTypes(client)).toContain('enrolment.refused');

    await expectNoSecrets(machine, [enrolToken, API_TOKEN, PASSWORD]);
    const doctor = await machine.run('dumont-agent doctor --json');
    expect(doctor.exitCode).toBe(0);
    expect(JSON.parse(doctor.stdout)).toMatchObject({ healthy: true });

    await machine.ok('sh /opt/dumont-agent/current/install.sh --uninstall --purge --yes');
    await machine.ok('rm -rf /workspace /mnt/workload.pids /tmp/thief');
    const own = (line: string) => !line.includes(' /mnt/objects');
    expect((await machine.tree()).filter(own)).toEqual(before.filter(own));
  },
);

/** The agent's and the workload's: what others on the machine may read, and what `ps` shows. */
async function expectNoSecrets(machine: SealedHost, known: readonly string[]): Promise<void> {
  const { credential } = JSON.parse(await machine.ok('cat /var/lib/dumont-agent/credential.json')) as CredentialRecord;
  const lines = await machine.ok(`for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$f; echo; done 2>/dev/null`);
  const readable = await machine.ok(
    `find /etc /opt /var /root /tmp /workspace -xdev -type f -perm /044 ! -name dumont-agent -exec cat {} + 2>/dev/null`,
  );
  const log = await agentLog(machine);
  for (const secret of [...known, credential]) {
    expect(lines).not.toContain(secret);
    expect(readable).not.toContain(secret);
    expect(log).not.toContain(secret);
  }
}

sealed('an upgrade and the way back from a broken one leave the workload alone', { timeout: 300_000 }, async () => {
  await using stack = new AsyncDisposableStack();
  const world = await startWorld(stack);
  const { machine, version, client } = world;
  const { instanceId } = await install(world);
  const pids = await workloadPids(machine);
  const agentOf = async () => (await client.call('listAgents')).items[0];
  await eventually('nothing moves the workspace', async () => (await agentOf())?.connected === true);

  // A suffix ranks before the version itself: it takes force.
  await client.call('upgradeAgents', { body: { instanceId, version: `${version}-newer`, force: true } });
  await eventually('the new version runs', async () => (await agentOf())?.version === `${version}-newer`, 60_000);
  expect(await machine.ok('dumont-agent --version')).toBe(`dumont-agent ${version}-newer\n`);
  expect(await longestPauseMs(machine)).toBeLessThan(RESTART_HOLD_MS);

  const asked = await client.call('upgradeAgents', { body: { instanceId, version: VERSION_FAULTY, force: true } });
  expect(asked.agents).toMatchObject([{ outcome: 'ordered' }]);
  await eventually(
    'the broken one was given up',
    async () => (await eventTypes(client)).includes('agent.upgrade-failed'),
    90_000,
  );
  await eventually('the good one is back', async () => (await agentOf())?.version === `${version}-newer`, 30_000);
  expect(await machine.ok(`${SUPERVISOR} status`)).toContain(`${version}-newer`);

  expect(await workloadPids(machine)).toEqual(pids);
  await machine.ok(`kill -0 ${pids[0]}`);
  expect((await client.call('listFailovers')).items).toEqual([]);
});

/** From an agent's last log line to the next one's welcome, by the log's own clock. */
async function longestPauseMs(machine: SealedHost): Promise<number> {
  const lines = (await agentLog(machine)).split('\n').flatMap((line) => {
    try {
      return [JSON.parse(line) as { time: number; pid: number; event?: string }];
    } catch {
      return [];
    }
  });
  const pauses = lines.flatMap((line, index) => {
    if (line.event !== 'welcomed') return [];
    const lastOfOther = lines.slice(0, index).findLast(({ pid }) => pid !== line.pid);
    return lastOfOther === undefined ? [] : [line.time - lastOfOther.time];
  });
  return Math.max(...pauses);
}
