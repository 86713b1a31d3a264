import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { workloadSchema } from '@dumont/shared/model/policy.ts';
import { expect, test } from 'vitest';
import { GcpMetadataSimulator } from '../simulators/gcp-metadata.ts';
import { AgentProcess, isRunning, makeHost } from '../world/agent-process.ts';
import { AgentSocketServer, testAssignment } from '../world/agent-socket-server.ts';
import { eventually } from '../world/eventually.ts';
import { makeTempFolder } from '../world/temp-folder.ts';

/** Nothing is saved but on purpose. */
const SELDOM = { heartbeatIntervalMs: 50, snapshotIntervalMs: 3_600_000 };

async function world() {
  const folder = await makeTempFolder();
  const store = join(folder.path, 'store');
  await mkdir(store);
  const workload = workloadSchema.parse({ command: 'exec sleep 600', preStop: 'echo "in memory" > flushed' });
  const server = await AgentSocketServer.start(
    testAssignment(store, { standing: 'primary', policy: SELDOM, workload }),
  );
  const metadata = await GcpMetadataSimulator.start();
  const made = await makeHost(folder.path);
  const host = { ...made, env: { GCE_METADATA_HOST: metadata.host } };
  return {
    folder,
    server,
    metadata,
    host,
    notices: () => server.of('notice').map(({ notice }) => notice),
    async [Symbol.asyncDispose]() {
      await metadata[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

test('a machine that Google takes back says so at once, saves what is unsaved and says what is safe', async () => {
  await using here = await world();
  const { server, metadata, host } = here;
  await using agent = new AgentProcess(server, host);
  await server.run({ name: 'start-workload', stableMs: 50 });
  const pid = await agent.workloadPid();
  await agent.logged('preemption-watched');
  // At its start the agent calls everything unsaved, until it has looked at all of the folder.
  await eventually('all is safe', async () => {
    await server.run({ name: 'snapshot' });
    await server.waitFor('heartbeat', server.of('heartbeat').length + 3);
    return server.of('heartbeat').at(-1)?.unsavedMs === 0;
  });
  await writeFile(join(host.workspaceDir, 'result'), 'not saved yet');
  await eventually('the change is seen', () => (server.of('heartbeat').at(-1)?.unsavedMs ?? 0) > 0);
  metadata.preempt();
  await server.waitFor('notice', 2);
  const [leaving, last] = here.notices();
  expect(leaving).toEqual({ type: 'leaving', source: 'gcp', withinMs: 30_000 });
  if (last?.type !== 'last-words') throw new Error('it did not say what is safe');
  expect(last.words).toMatchObject({ unsafeFiles: 0, unsafeBytes: 0, unsafePaths: [], standbyBehindBytes: null });
  expect(last.words.safeFiles).toBeGreaterThanOrEqual(1);
  expect(await readFile(join(host.workspaceDir, 'flushed'), 'utf8')).toBe('in memory\n');
  const head = server.of('snapshot-commit').at(-1)?.snapshot;
  expect(head?.snapshotId).toBe(last.words.snapshotId);
  expect(head?.fileCount).toBe(2);
  // The control plane takes it from here: until it does, the work goes on.
  expect(await isRunning(pid)).toBe(true);
});

test('an agent that is told to stop says the same before it closes', async () => {
  await using here = await world();
  const { server, host } = here;
  await using agent = new AgentProcess(server, host);
  await server.run({ name: 'snapshot' });
  await writeFile(join(host.workspaceDir, 'result'), 'not saved yet');
  agent.child.kill('SIGTERM');
  expect(await agent.exit).toBe(0);
  expect(here.notices()).toMatchObject([
    { type: 'leaving', source: 'sigterm' },
    { type: 'last-words', words: { unsafeFiles: 0 } },
  ]);
  expect(server.of('snapshot-commit').at(-1)?.snapshot.fileCount).toBe(1);
});
