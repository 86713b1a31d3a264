import { appendFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { newId } from '@dumont/shared/model/ids.ts';
import type { Workload } from '@dumont/shared/model/policy.ts';
import type { Assignment } from '@dumont/shared/protocol/hello.ts';
import { expect, test } from 'vitest';
import { type AgentHost, AgentProcess, isRunning, makeHost } from '../world/agent-process.ts';
import { AgentSocketServer, testAssignment } from '../world/agent-socket-server.ts';
import { eventually } from '../world/eventually.ts';
import { makeTempFolder } from '../world/temp-folder.ts';

const TICKER: Workload = { command: 'echo up >> starts; exec sleep 600', restart: true };

async function world(change: Partial<Assignment> = {}) {
  const folder = await makeTempFolder();
  const store = join(folder.path, 'store');
  await mkdir(store);
  const server = await AgentSocketServer.start(testAssignment(store, { standing: 'primary', ...change }));
  const host = await makeHost(folder.path);
  return {
    folder,
    server,
    host,
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

async function startCount(host: AgentHost): Promise<number> {
  const text = await readFile(join(host.workspaceDir, 'starts'), 'utf8').catch(() => '');
  return text.split('\n').length - 1;
}

test('a primary publishes what changes, and a replacement restores exactly that and runs the hook', async () => {
  const workload: Workload = { ...TICKER, postRestore: 'cat model > warmed' };
  await using here = await world({ workload });
  const { server, host, folder } = here;
  await writeFile(join(host.workspaceDir, 'model'), 'weights-1');
  await using primary = new AgentProcess(server, host);
  expect((await server.waitFor('snapshot-commit')).epoch).toBe(1);
  await eventually('all is safe', () => server.of('heartbeat').at(-1)?.unsavedMs === 0);
  await writeFile(join(host.workspaceDir, 'model'), 'weights-2');
  await server.waitFor('snapshot-commit', 2);
  await eventually('all is safe again', () => server.of('heartbeat').at(-1)?.unsavedMs === 0);
  const { head, storage, workspaceId } = server.assignment;
  if (head === null) throw new Error('there is no head');
  await primary.crash();

  const assignment = testAssignment('', { storage, workspaceId, head, workload, epoch: 2 });
  await using nextServer = await AgentSocketServer.start(assignment);
  const nextHost = await makeHost(folder.path, 'next');
  await using _ = new AgentProcess(nextServer, nextHost);
  await nextServer.waitFor('heartbeat');
  const early = await nextServer.run({ name: 'start-workload', stableMs: 0 });
  expect(early).toMatchObject({ ok: false, code: 'CONFLICT' });
  const restored = await nextServer.run({ name: 'restore', snapshot: head });
  expect(restored).toMatchObject({ ok: true, result: { restore: { snapshotId: head.snapshotId } } });
  expect(await readFile(join(nextHost.workspaceDir, 'model'), 'utf8')).toBe('weights-2');
  expect(await readFile(join(nextHost.workspaceDir, 'warmed'), 'utf8')).toBe('weights-2');
  expect(nextServer.of('snapshot-commit')).toEqual([]);

  nextServer.assign({ standing: 'primary' });
  expect(await nextServer.run({ name: 'start-workload', stableMs: 100 })).toMatchObject({
    ok: true,
    result: { state: 'running' },
  });
  const commit = await nextServer.waitFor('snapshot-commit');
  expect(commit).toMatchObject({ epoch: 2, snapshot: { parentId: head.snapshotId } });
});

test('a command is acknowledged at once and performed once, however often it is sent', async () => {
  await using here = await world({ workload: TICKER });
  const { server, host } = here;
  await using _ = new AgentProcess(server, host);
  await server.waitFor('heartbeat');
  const commandId = newId('command');
  const action = { name: 'start-workload', stableMs: 300 } as const;
  for (let times = 0; times < 3; times += 1) server.send({ kind: 'command', commandId, action });
  const first = await server.run(action, commandId);
  expect(first).toMatchObject({ ok: true });
  await server.run({ name: 'stop-workload', graceMs: 0 });
  server.send({ kind: 'command', commandId, action });
  await server.waitFor('command-result', 3);
  const results = server.of('command-result').filter((result) => result.commandId === commandId);
  expect(results.map((result) => result.outcome)).toEqual([first, first]);
  expect(await startCount(host)).toBe(1);
  expect(server.of('command-ack').length).toBeGreaterThanOrEqual(5);
});

test('a snapshot command returns a record of what was on disk when it was sent, or null when nothing differs', async () => {
  await using here = await world({ policy: { heartbeatIntervalMs: 50, snapshotIntervalMs: 3_600_000 } });
  const { server, host } = here;
  await using _ = new AgentProcess(server, host);
  await server.waitFor('heartbeat');
  await writeFile(join(host.workspaceDir, 'a'), 'one');
  const outcome = await server.run({ name: 'snapshot' });
  expect(outcome).toMatchObject({ ok: true, result: { name: 'snapshot', record: { fileCount: 1 } } });
  expect(await server.run({ name: 'snapshot' })).toEqual({ ok: true, result: { name: 'snapshot', record: null } });
});

test('when the head moved, the agent builds on the new head at once', async () => {
  await using here = await world();
  const { server, host } = here;
  await writeFile(join(host.workspaceDir, 'a'), 'one');
  const decide = server.decide;
  server.decide = (commit) => {
    decide(commit);
    server.decide = (next) => {
      server.decide = decide;
      return next.snapshot.parentId === null ? { kind: 'stale-parent', head: server.assignment.head } : decide(next);
    };
    return { kind: 'stale-parent', head: server.assignment.head };
  };
  await using _ = new AgentProcess(server, host);
  await server.waitFor('snapshot-commit');
  await eventually('all is safe', () => server.of('heartbeat').at(-1)?.unsavedMs === 0);
  await writeFile(join(host.workspaceDir, 'b'), 'two');
  const commit = await eventually('a commit on the head', () =>
    server.of('snapshot-commit').find(({ snapshot }) => snapshot.fileCount === 2),
  );
  expect(commit.snapshot.parentId).toBe(server.of('snapshot-commit')[0]?.snapshot.snapshotId);
});

test('a fenced agent stops its workload, publishes nothing more, keeps the files and keeps beating', async () => {
  await using here = await world({ workload: TICKER });
  const { server, host } = here;
  await using agent = new AgentProcess(server, host);
  await server.waitFor('heartbeat');
  await server.run({ name: 'start-workload', stableMs: 50 });
  const pid = await agent.workloadPid();
  server.assign({ standing: 'fenced', epoch: 2 });
  await eventually('the workload ends', async () => !(await isRunning(pid)));
  await eventually('the beats say so', () => server.of('heartbeat').at(-1)?.workload === 'stopped');
  const commits = server.of('snapshot-commit').length;
  await appendFile(join(host.workspaceDir, 'late'), 'unpublished');
  const beats = server.of('heartbeat').length;
  await server.waitFor('heartbeat', beats + 30);
  expect(server.of('snapshot-commit').length).toBe(commits);
  expect(await server.run({ name: 'start-workload', stableMs: 0 })).toMatchObject({ ok: false, code: 'CONFLICT' });
  expect(await readFile(join(host.workspaceDir, 'late'), 'utf8')).toBe('unpublished');
});

test('an ack with a higher epoch stops publishing but not the workload, and is remembered over a crash', async () => {
  await using here = await world({ workload: TICKER });
  const { server, host } = here;
  await using agent = new AgentProcess(server, host);
  await server.run({ name: 'start-workload', stableMs: 50 });
  await eventually('all is safe', () => server.of('heartbeat').at(-1)?.unsavedMs === 0);
  server.ackEpoch = 5;
  await server.waitFor('heartbeat', server.of('heartbeat').length + 5);
  const commits = server.of('snapshot-commit').length;
  await writeFile(join(host.workspaceDir, 'late'), 'unpublished');
  await eventually('it is known to be unsafe', () => (server.of('heartbeat').at(-1)?.unsavedMs ?? 0) > 800);
  expect(server.of('snapshot-commit').length).toBe(commits);
  expect(await isRunning(await agent.workloadPid())).toBe(true);
  await agent.crash();
  await using _ = new AgentProcess(server, host);
  await server.waitFor('hello', 2);
  expect(server.hellos()[1]?.lastEpoch).toBe(5);
});

test('an outage of the control plane stops neither the workload nor, afterwards, the publishing', async () => {
  await using here = await world({ workload: TICKER });
  const { server, host } = here;
  await using agent = new AgentProcess(server, host);
  await server.run({ name: 'start-workload', stableMs: 50 });
  const pid = await agent.workloadPid();
  const { port, assignment } = server;
  await server[Symbol.asyncDispose]();
  await agent.logged('link-lost', 3);
  await writeFile(join(host.workspaceDir, 'during'), 'the outage');
  expect(await isRunning(pid)).toBe(true);
  await using again = await AgentSocketServer.start(assignment, port);
  await again.waitFor('snapshot-commit');
  expect(await isRunning(pid)).toBe(true);
  expect(await startCount(host)).toBe(1);
});

test('an agent killed alone and started again goes on with the running workload, and judges it once welcomed', async () => {
  await using here = await world({ workload: TICKER });
  const { server, host } = here;
  await using first = new AgentProcess(server, host);
  await server.run({ name: 'start-workload', stableMs: 50 });
  const firstPid = await first.workloadPid();
  await first.crash();
  expect(await isRunning(firstPid)).toBe(true);
  const { port, assignment } = server;
  await server[Symbol.asyncDispose]();
  await using second = new AgentProcess({ controlUrl: `http://127.0.0.1:${port}` }, host);
  await second.logged('link-lost');
  expect(await startCount(host)).toBe(1);
  await using again = await AgentSocketServer.start(assignment, port);
  await eventually('the copy is adopted', () => again.of('heartbeat').at(-1)?.workload === 'running');
  expect(await isRunning(firstPid)).toBe(true);
  expect(await startCount(host)).toBe(1);
  expect(await second.workloadPid()).toBe(firstPid);
  expect(await again.run({ name: 'start-workload', stableMs: 100 })).toMatchObject({
    ok: true,
    result: { state: 'running', pid: firstPid },
  });
  await again.run({ name: 'stop-workload', graceMs: 5_000 });
  expect(await isRunning(firstPid)).toBe(false);
});

test('asked to stop, a primary saves the newest data, closes in good order and ends the workload', async () => {
  const policy = { heartbeatIntervalMs: 50, snapshotIntervalMs: 3_600_000 };
  await using here = await world({ workload: TICKER, policy });
  const { server, host } = here;
  await using agent = new AgentProcess(server, host);
  await server.run({ name: 'start-workload', stableMs: 50 });
  const pid = await agent.workloadPid();
  await server.run({ name: 'snapshot' });
  const commits = server.of('snapshot-commit').length;
  await writeFile(join(host.workspaceDir, 'last'), 'words');
  await eventually('the change is seen', () => (server.of('heartbeat').at(-1)?.unsavedMs ?? 0) > 0);
  agent.child.kill('SIGTERM');
  expect(await agent.exit).toBe(0);
  expect(server.of('snapshot-commit').length).toBe(commits + 1);
  expect(server.closes.at(-1)?.code).toBe(1000);
  expect(await isRunning(pid)).toBe(false);
});

test('the workload sees its folder but not the secrets of the agent', async () => {
  const workload: Workload = { command: 'env > seen; exec sleep 600', restart: true };
  await using here = await world({ workload });
  const { server, host } = here;
  const env = {
    DUMONT_ENROL_TOKEN: 't'.repeat(43),
    SNAPSHOT_PASSWORD: 'open sesame',
    S3_APPLICATION_KEY: 'k',
    MINE: 'kept',
  };
  await using _ = new AgentProcess(server, { ...host, env });
  await server.run({ name: 'start-workload', stableMs: 200 });
  const seen = await readFile(join(host.workspaceDir, 'seen'), 'utf8');
  expect(seen).toContain(`DUMONT_WORKSPACE_DIR=${host.workspaceDir}`);
  expect(seen).toContain('MINE=kept');
  expect(seen).not.toMatch(/DUMONT_ENROL_TOKEN|SNAPSHOT_PASSWORD|S3_APPLICATION_KEY/);
});

test('a folder store mounted elsewhere on this host is found there', async () => {
  await using here = await world();
  const { server, host } = here;
  const { storage } = server.assignment;
  if (storage?.kind !== 'file') throw new Error('the test world keeps its store in a folder');
  server.assignment = { ...server.assignment, storage: { ...storage, path: '/on/the/control/plane' } };
  await writeFile(join(host.workspaceDir, 'a'), 'one');
  await using _ = new AgentProcess(server, { ...host, env: { DUMONT_FILE_STORE_MOUNT: storage.path } });
  const commit = await server.waitFor('snapshot-commit');
  expect((await readFile(join(storage.path, commit.snapshot.manifestKey))).length).toBeGreaterThan(0);
});
