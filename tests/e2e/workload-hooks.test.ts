import { once } from 'node:events';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { type Workload, workloadSchema } from '@dumont/shared/model/policy.ts';
import type { Assignment } from '@dumont/shared/protocol/hello.ts';
import { expect, test } from 'vitest';
import { AgentProcess, makeHost } from '../world/agent-process.ts';
import { AgentSocketServer, testAssignment } from '../world/agent-socket-server.ts';
import { eventually } from '../world/eventually.ts';
import { makeTempFolder } from '../world/temp-folder.ts';
import { torchFile } from '../world/tensor-files.ts';

const MODEL_SERVER = join(import.meta.dirname, '../world/model-server-process.ts');
const CHECKPOINT = torchFile([Buffer.alloc(4_096, 7)]);
const SELDOM = { heartbeatIntervalMs: 50, snapshotIntervalMs: 3_600_000 };

async function world(workload: Partial<Workload> & { readonly command: string }, change: Partial<Assignment> = {}) {
  const folder = await makeTempFolder();
  const store = join(folder.path, 'store');
  await mkdir(store);
  const assignment = { standing: 'primary', workload: workloadSchema.parse(workload), policy: SELDOM } as const;
  const server = await AgentSocketServer.start(testAssignment(store, { ...assignment, ...change }));
  const host = await makeHost(folder.path);
  return {
    folder,
    server,
    host,
    /** Lines of a file of the workspace, empty without it. */
    async lines(name: string): Promise<string[]> {
      const text = await readFile(join(host.workspaceDir, name), 'utf8').catch(() => '');
      return text.split('\n').filter((line) => line !== '');
    },
    notices: () => server.of('notice').map(({ notice }) => notice),
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

test('a workload is at rest while a snapshot reads the folder, and goes on afterwards', async () => {
  // It writes a pair of files that belong together, unless the flag tells it to wait.
  const command = `n=0; while :; do n=$((n+1)); if [ -e .rest ]; then echo $n > .resting; sleep 0.01; continue; fi
    rm -f .resting; echo $n > a; sleep 0.02; echo $n > b; done`;
  await using here = await world({
    command,
    preSnapshot:
      'touch .rest; while [ ! -e .resting ]; do sleep 0.01; done; cat a b > "seen"; echo "$DUMONT_HOOK" >> log',
    postSnapshot: 'rm -f .rest; echo "$DUMONT_HOOK $DUMONT_WORKSPACE" >> log',
  });
  const { server, host } = here;
  await using _ = new AgentProcess(server, host);
  await server.run({ name: 'start-workload', stableMs: 100 });
  await eventually('it writes', async () => (await here.lines('b')).length > 0);
  await server.run({ name: 'snapshot' });
  const [first, second] = await here.lines('seen');
  expect(first).toBe(second);
  const hooks = ['preSnapshot', `postSnapshot ${server.assignment.workspaceId}`];
  expect((await here.lines('log')).slice(0, 2)).toEqual(hooks);
  const [before] = await here.lines('b');
  await eventually('it goes on', async () => (await here.lines('b'))[0] !== before);
  expect(here.notices()).toEqual([]);
});

test('a hook that fails, or takes too long, is reported once and the snapshot is taken all the same', async () => {
  await using here = await world({
    command: 'exec sleep 600',
    preSnapshot: 'echo no database here; exit 3',
    postSnapshot: 'echo woken >> woken; sleep 60',
    hookTimeoutMs: 200,
  });
  const { server, host } = here;
  await using _ = new AgentProcess(server, host);
  await server.run({ name: 'start-workload', stableMs: 50 });
  for (const content of ['one', 'two']) {
    await writeFile(join(host.workspaceDir, 'data'), content);
    expect(await server.run({ name: 'snapshot' })).toMatchObject({ ok: true, result: { record: {} } });
  }
  // The agent may have taken one of its own at the start.
  expect((await here.lines('woken')).length).toBeGreaterThanOrEqual(2);
  expect(here.notices()).toEqual([
    { type: 'soft-error', source: 'pre-snapshot', message: expect.stringMatching(/exit code 3: .*no database/s) },
    { type: 'soft-error', source: 'post-snapshot', message: expect.stringContaining('within 200 ms') },
  ]);
});

test('a workload left at rest by an agent that died in the middle of a snapshot is woken by the next', async () => {
  await using here = await world({
    command: 'exec sleep 600',
    preSnapshot: 'echo rest >> log; sleep 60',
    postSnapshot: 'echo woken >> log',
  });
  const { server, host } = here;
  await using first = new AgentProcess(server, host);
  await server.run({ name: 'start-workload', stableMs: 50 });
  await writeFile(join(host.workspaceDir, 'data'), 'one');
  void server.run({ name: 'snapshot' }).catch(() => {});
  await eventually('it rests', async () => (await here.lines('log')).length === 1);
  await first.crash();
  await using _ = new AgentProcess(server, host);
  await eventually('it is woken', async () => (await here.lines('log')).at(-1) === 'woken');
});

test('before a stop the workload saves what it holds in memory, which the last snapshot then has', async () => {
  await using here = await world({
    command: 'exec sleep 600',
    preStop: 'echo "saved by $DUMONT_HOOK" > state',
  });
  const { server, host } = here;
  await using agent = new AgentProcess(server, host);
  await server.run({ name: 'start-workload', stableMs: 50 });
  const pid = await agent.workloadPid();
  expect(await server.run({ name: 'stop-workload', graceMs: 1_000 })).toMatchObject({ result: { state: 'stopped' } });
  expect(await here.lines('state')).toEqual(['saved by preStop']);
  expect(pid).toBeGreaterThan(0);
  await server.run({ name: 'snapshot' });
  expect(server.of('snapshot-commit').at(-1)?.snapshot.fileCount).toBe(1);
});

test('a replacement sets half-written checkpoints aside before anything loads them, and names the newest whole one', async () => {
  const show = (file: string) => `echo "\${DUMONT_LATEST_CHECKPOINT:-none}" > ${file}`;
  await using here = await world({ command: `${show('seen')}; exec sleep 600`, postRestore: show('warmed') });
  const { server, host, folder } = here;
  await writeFile(join(host.workspaceDir, 'step1.pt'), CHECKPOINT);
  await writeFile(join(host.workspaceDir, 'step2.pt'), CHECKPOINT.subarray(0, 2_000));
  {
    await using _ = new AgentProcess(server, host);
    await server.run({ name: 'snapshot' });
  }
  const { head, storage, workspaceId, workload } = server.assignment;
  if (head === null) throw new Error('there is no head');
  await using next = await AgentSocketServer.start(testAssignment('', { storage, workspaceId, head, workload }));
  const nextHost = await makeHost(folder.path, 'next');
  await using _ = new AgentProcess(next, nextHost);
  const restored = await next.run({ name: 'restore', snapshot: head });
  expect(restored).toMatchObject({
    ok: true,
    result: {
      restore: {
        checkpoints: {
          latest: 'step1.pt',
          completeCount: 1,
          incompleteCount: 1,
          incomplete: [{ path: 'step2.pt', setAsideAs: 'step2.pt.incomplete' }],
        },
      },
    },
  });
  const latest = join(nextHost.workspaceDir, 'step1.pt');
  const read = async (name: string) => (await readFile(join(nextHost.workspaceDir, name), 'utf8')).trim();
  expect(await read('warmed')).toBe(latest);
  next.assign({ standing: 'primary' });
  await next.run({ name: 'start-workload', stableMs: 200 });
  expect(await read('seen')).toBe(latest);
  expect(await readdir(nextHost.workspaceDir)).toContain('step2.pt.incomplete');
});

test('a workload that dies while it writes a checkpoint is started again from the one before', async () => {
  const command = `if [ -e crashed ]; then echo "$DUMONT_LATEST_CHECKPOINT" > resumed; exec sleep 600; fi
    cp whole ckpt-1.pt; sleep 0.02; head -c 1500 whole > ckpt-2.pt; touch crashed; exit 1`;
  await using here = await world({ command });
  const { server, host } = here;
  await writeFile(join(host.workspaceDir, 'whole'), CHECKPOINT);
  await using _ = new AgentProcess(server, host);
  await server.run({ name: 'start-workload', stableMs: 0 });
  await eventually('it resumes', async () => (await here.lines('resumed')).length > 0);
  expect(await here.lines('resumed')).toEqual([join(host.workspaceDir, 'ckpt-1.pt')]);
  expect(await readdir(host.workspaceDir)).toContain('ckpt-2.pt.incomplete');
});

test('a model server counts as resumed once it has generated, and one that does not is told of', async () => {
  const port = await freePort();
  const check = { kind: 'ollama', port, model: 'llama3.2', prompt: 'Say hello.', timeoutMs: 20_000 } as const;
  const command = `exec "${process.execPath}" "${MODEL_SERVER}" ${port} 300 300`;
  await using here = await world({ command, check });
  const { server, host } = here;
  await using _ = new AgentProcess(server, host);
  const started = await server.run({ name: 'start-workload', stableMs: 0, check: true });
  expect(started).toMatchObject({
    ok: true,
    result: { state: 'running', check: { kind: 'ollama', model: 'llama3.2', ok: true, tokens: 7, error: null } },
  });
  if (!started.ok || started.result.name !== 'start-workload') throw new Error('not started');
  expect(started.result.check?.readyMs).toBeGreaterThan(200);
  expect(started.result.check?.firstTokenMs).toBeGreaterThan(290);

  const missing = workloadSchema.parse({ command, check: { ...check, model: 'qwen3:8b', timeoutMs: 500 } });
  server.assign({ workload: missing });
  expect(await server.run({ name: 'start-workload', stableMs: 0, check: true })).toMatchObject({
    ok: true,
    result: { state: 'running', check: { ok: false, error: expect.stringContaining('no model qwen3:8b') } },
  });
  const plain = await server.run({ name: 'start-workload', stableMs: 0 });
  expect(plain.ok && plain.result).not.toHaveProperty('check');
});
