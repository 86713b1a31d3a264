import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { credentialPath, type CredentialRecord } from '@dumont/agent/identity/credential-file.ts';
import { isDumontError } from '@dumont/shared/util/errors.ts';
import { expect, test } from 'vitest';
import { startInProcess } from '../world/control-plane-in-process.ts';
import { eventually } from '../world/eventually.ts';
import { AGENT_MAIN, Site } from '../world/site.ts';

/** A computer of the user's: folders, an environment, and agents run on it from source. */
class OwnMachine implements AsyncDisposable {
  readonly workspaceDir: string;
  readonly stateDir: string;
  readonly #env: Record<string, string>;
  readonly #running = new Set<ChildProcess>();

  private constructor(site: Site, name: string) {
    this.workspaceDir = join(site.folder, name, 'workspace');
    this.stateDir = join(site.folder, name, 'state');
    this.#env = {
      PATH: process.env['PATH'] ?? '',
      DUMONT_CONTROL_URL: `http://127.0.0.1:${site.port}`,
      DUMONT_WORKSPACE_DIR: this.workspaceDir,
      DUMONT_STATE_DIR: this.stateDir,
    };
  }

  static async make(site: Site, name: string): Promise<OwnMachine> {
    const machine = new OwnMachine(site, name);
    await mkdir(machine.workspaceDir, { recursive: true });
    return machine;
  }

  start(argv: readonly string[], env: Readonly<Record<string, string>> = {}): ChildProcess {
    const child = spawn(process.execPath, [AGENT_MAIN, ...argv], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...this.#env, ...env },
    });
    this.#running.add(child);
    child.once('close', () => this.#running.delete(child));
    return child;
  }

  /** Runs a command to its end. */
  async run(argv: readonly string[], env: Readonly<Record<string, string>> = {}) {
    const child = this.start(argv, env);
    let [stdout, stderr] = ['', ''];
    child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    const [exitCode] = (await once(child, 'close')) as [number | null];
    return { exitCode, stdout, stderr };
  }

  async record(): Promise<CredentialRecord> {
    return JSON.parse(await readFile(credentialPath(this.stateDir), 'utf8')) as CredentialRecord;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#running) {
      const closed = once(child, 'close');
      child.kill('SIGKILL');
      await closed;
    }
  }
}

test('a machine of one’s own joins, works, outlives a restart of the control plane and is given back', async () => {
  await using site = await Site.make();
  const environment = { DUMONT_CREDENTIAL_ROTATE_MS: '1000' };
  await using stack = new AsyncDisposableStack();
  let controlPlane = await startInProcess(site, {}, environment);
  stack.defer(() => controlPlane[Symbol.asyncDispose]());
  const { client } = site;
  const added = await client.call('addMachine', { body: { workspace: 'lab', policy: { snapshotIntervalMs: 500 } } });
  const { instanceId, enrolToken } = added;
  expect(added.installCommand).toBe(
    `curl -fsSL http://127.0.0.1:${site.port}/install.sh | sh -s -- --token ${enrolToken}`,
  );
  expect((await client.call('listEnrolments')).items).toMatchObject([{ instanceId, provider: 'own' }]);

  await using machine = await OwnMachine.make(site, 'desk');
  const token = { DUMONT_ENROL_TOKEN: enrolToken };
  const first = await machine.run(['enrol', '--json'], token);
  expect(JSON.parse(first.stdout)).toMatchObject({ instanceId, role: 'gpu', enrolled: 'now' });
  expect((await machine.run(['enrol'], token)).stdout).toMatch(/^Already joined/);
  expect((await stat(credentialPath(machine.stateDir))).mode & 0o777).toBe(0o600);
  expect((await client.call('listEnrolments')).items).toEqual([]);

  await using thief = await OwnMachine.make(site, 'thief');
  const refused = await thief.run(['enrol', '--json'], token);
  expect(refused.exitCode).toBe(1);
  expect(JSON.parse(refused.stdout)).toMatchObject({ error: { code: 'UNAUTHORIZED', field: 'enrolToken' } });
  expect(refused.stdout + refused.stderr).not.toContain(enrolToken);

  const firstCredential = (await machine.record()).credential;
  const agent = machine.start([]);
  await eventually('the machine is primary', async () => {
    return (await client.call('getOperation', { params: { operationId: added.operationId } })).state === 'completed';
  });
  const view = async () => client.call('getInstance', { params: { instanceId } });
  expect(await view()).toMatchObject({ standing: 'primary', provider: 'own', priceMicroUsdPerHour: 0, state: 'ready' });
  await writeFile(join(machine.workspaceDir, 'notes.txt'), 'mine');
  const { snapshot } = await client.call('takeSnapshot', { body: { workspace: 'lab' } });
  const head = snapshot ?? (await client.call('listSnapshots', { query: { workspace: 'lab' } })).items[0];
  expect(head).toMatchObject({ fileCount: 1 });

  await eventually('its credential was replaced', async () => (await machine.record()).credential !== firstCredential);
  await controlPlane[Symbol.asyncDispose]();
  controlPlane = await startInProcess(site, {}, environment);
  await eventually('it is back', async () => (await view()).connected);
  expect(await view()).toMatchObject({ standing: 'primary', state: 'ready' });

  const ended = once(agent, 'close');
  await client.call('destroyInstance', { params: { instanceId } });
  expect((await ended)[0]).toBe(0);
  await eventually('the ledger is closed', async () => (await client.call('listLedger')).items.length === 0);
  expect(await readFile(join(machine.workspaceDir, 'notes.txt'), 'utf8')).toBe('mine');
  expect((await machine.record()).isReleased).toBe(true);
  expect((await machine.run([])).exitCode).toBe(0);

  const { items } = await client.call('listEvents', { query: { workspace: 'lab', limit: 500 } });
  const types = new Set(items.map(({ type }) => type));
  for (const type of ['enrolment.used', 'enrolment.refused', 'credential.replaced', 'instance.ready', 'machine.gone']) {
    expect(types).toContain(type);
  }
  expect(types).not.toContain('failover.started');
});

test('a machine whose token is revoked or never used is given up, and no other is rented in its place', async () => {
  await using site = await Site.make();
  await using _controlPlane = await startInProcess(site, {}, { DUMONT_OWN_TOKEN_MS: '10000' });
  const { client } = site;
  const revoked = await client.call('addMachine', { body: { workspace: 'revoked' } });
  const late = await client.call('addMachine', { body: { workspace: 'late' } });
  const params = { instanceId: revoked.instanceId };
  expect(await client.call('revokeEnrolment', { params })).toMatchObject({ revoked: true });
  for (const { operationId } of [revoked, late]) {
    await eventually(
      'it gave up',
      async () => (await client.call('getOperation', { params: { operationId } })).state === 'failed',
      40_000,
    );
  }
  expect((await client.call('listLedger', { query: { all: 'true' } })).items.map(({ provider }) => provider)).toEqual([
    'own',
    'own',
  ]);
  const again = await client.call('addMachine', { body: { workspace: 'late' } }).catch((error: unknown) => error);
  expect(isDumontError(again, 'CONFLICT')).toBe(true);
});
