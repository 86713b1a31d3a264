import { join } from 'node:path';
import { spawnSync } from 'node:child_process';
import { CLOSE_CODES } from '@dumont/shared/protocol/version.ts';
import { expect, test } from 'vitest';
import { AgentProcess, makeHost } from '../world/agent-process.ts';
import { AgentSocketServer, testAssignment } from '../world/agent-socket-server.ts';
import { eventually } from '../world/eventually.ts';
import { makeTempFolder } from '../world/temp-folder.ts';

const POLICY = { heartbeatIntervalMs: 200, snapshotIntervalMs: 300 };

test('beats go on at their interval while the main thread is stuck for two seconds, and say that it is', async () => {
  await using folder = await makeTempFolder();
  await using server = await AgentSocketServer.start(testAssignment(folder.path, { policy: POLICY }));
  const entry = join(import.meta.dirname, '../world/blockable-agent.ts');
  await using agent = new AgentProcess(server, { ...(await makeHost(folder.path)), entry });
  await server.waitFor('heartbeat', 10);
  const before = server.of('heartbeat').length;
  agent.child.send(2_000);
  await server.waitFor('heartbeat', before + 15);
  const beats = server.arrivals.filter(({ message }) => message.kind === 'heartbeat').slice(before, before + 15);
  const gaps = beats.slice(1).map((beat, index) => beat.atMs - (beats[index]?.atMs ?? 0));
  expect(Math.max(...gaps)).toBeLessThan(600);
  const lags = beats.map(({ message }) => (message.kind === 'heartbeat' ? message.mainLagMs : 0));
  expect(Math.max(...lags)).toBeGreaterThan(1_400);
  await eventually('it recovers', () => (server.of('heartbeat').at(-1)?.mainLagMs ?? 1) === 0);
});

test('samples of the host follow the first beat', async () => {
  await using folder = await makeTempFolder();
  await using server = await AgentSocketServer.start(testAssignment(folder.path, { policy: POLICY }));
  await using _ = new AgentProcess(server, await makeHost(folder.path));
  const sample = await server.waitFor('sample');
  expect(sample.host.memoryTotalBytes).toBeGreaterThan(0);
  expect(server.arrivals.findIndex(({ message }) => message.kind === 'heartbeat')).toBe(1);
});

test('a wrong credential ends the agent with a clear message', async () => {
  await using folder = await makeTempFolder();
  await using server = await AgentSocketServer.start(testAssignment(folder.path));
  const refused = {
    code: 'UNAUTHORIZED',
    message: 'unknown instance or wrong credential',
    hint: 'rent it anew',
  } as const;
  server.refusal = { refused, closeCode: CLOSE_CODES.unauthorized };
  await using agent = new AgentProcess(server, await makeHost(folder.path));
  expect(await agent.exit).toBe(77);
  expect(agent.stderr).toContain('error: unknown instance or wrong credential\nrent it anew\n');
  expect(agent.stderr).not.toContain('a-credential-for-tests');
});

test('a released agent ends in good order', async () => {
  await using folder = await makeTempFolder();
  await using server = await AgentSocketServer.start(testAssignment(folder.path));
  await using agent = new AgentProcess(server, await makeHost(folder.path));
  await server.waitFor('heartbeat');
  server.closeAll(CLOSE_CODES.released, 'destroyed');
  expect(await agent.exit).toBe(0);
});

test('nonsense from the control plane is named in the log and the agent comes back', async () => {
  await using folder = await makeTempFolder();
  await using server = await AgentSocketServer.start(testAssignment(folder.path));
  await using agent = new AgentProcess(server, await makeHost(folder.path));
  await server.waitFor('heartbeat');
  server.sendText('{"kind":"dance"}');
  await agent.logged('link-lost');
  expect(agent.stderr).toContain('"doing":"decode"');
  await server.waitFor('hello', 2);
});

test('a standby connects, beats and runs no workload', async () => {
  await using folder = await makeTempFolder();
  await using server = await AgentSocketServer.start(testAssignment(folder.path, { standing: 'standby' }));
  const host = await makeHost(folder.path);
  await using _ = new AgentProcess(server, { ...host, role: 'standby' });
  await server.waitFor('heartbeat');
  expect(server.hellos()[0]?.role).toBe('standby');
  const started = await server.run({ name: 'start-workload', stableMs: 0 });
  expect(started).toMatchObject({ ok: false, code: 'CONFLICT' });
});

test('a bad environment names every variable at fault; help lists them all', () => {
  const main = join(import.meta.dirname, '../../agent/src/main.ts');
  const bad = spawnSync(process.execPath, [main], {
    encoding: 'utf8',
    env: { DUMONT_CONTROL_URL: 'ftp://x', DUMONT_ENROL_TOKEN: 'short' },
  });
  expect(bad.status).toBe(2);
  for (const name of ['DUMONT_CONTROL_URL', 'DUMONT_ENROL_TOKEN']) {
    expect(bad.stderr).toContain(name);
  }
  const help = spawnSync(process.execPath, [main, '--help'], { encoding: 'utf8' });
  expect(help.status).toBe(0);
  expect(help.stdout).toContain('DUMONT_FILE_STORE_MOUNT');
  const unknown = spawnSync(process.execPath, [main, 'dance'], { encoding: 'utf8' });
  expect(unknown.status).toBe(2);
  expect(unknown.stderr).toContain('unknown argument dance');
});
