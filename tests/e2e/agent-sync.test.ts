import { createServer } from 'node:net';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { AgentProcess, makeHost } from '../world/agent-process.ts';
import { AgentSocketServer, testAssignment } from '../world/agent-socket-server.ts';
import { eventually } from '../world/eventually.ts';
import { makeTempFolder } from '../world/temp-folder.ts';

const TOKEN = 'a token of one workspace and epoch';

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

test('two agents keep a folder on both machines by their assignments, until the standby is primary itself', async () => {
  await using folder = await makeTempFolder();
  const store = join(folder.path, 'store');
  await mkdir(store);
  const port = await freePort();
  const common = testAssignment(store);
  const { workspaceId } = common;
  await using forPrimary = await AgentSocketServer.start(
    testAssignment(store, {
      workspaceId,
      standing: 'primary',
      sync: { role: 'send', url: `wss://127.0.0.1:${port}`, token: TOKEN, epoch: 1 },
    }),
  );
  await using forStandby = await AgentSocketServer.start(
    testAssignment(store, {
      workspaceId,
      standing: 'standby',
      sync: { role: 'receive', host: '127.0.0.1', port, token: TOKEN, epoch: 1 },
    }),
  );
  const primaryHost = await makeHost(folder.path, 'primary');
  const made = await makeHost(folder.path, 'standby');
  const standbyHost = { ...made, role: 'standby' } as const;
  await writeFile(join(primaryHost.workspaceDir, 'model'), 'weights-1');
  await using primary = new AgentProcess(forPrimary, primaryHost);
  await using standby = new AgentProcess(forStandby, standbyHost);
  await standby.logged('sync-listening');
  await primary.logged('sync-connected');
  const holds = (text: string) => async () =>
    (await readFile(join(standbyHost.workspaceDir, 'model'), 'utf8').catch(() => '')) === text;
  await eventually('the standby has the file', holds('weights-1'));
  await writeFile(join(primaryHost.workspaceDir, 'model'), 'weights-2');
  await eventually('the standby has the change', holds('weights-2'));
  await eventually('a beat says so', () => forPrimary.of('heartbeat').at(-1)?.standbyBehindMs === 0);
  expect(forStandby.of('heartbeat').at(-1)?.standbyBehindMs).toBeUndefined();

  // The workspace moves on: whoever held the old epoch sends nothing more.
  forStandby.assign({ epoch: 2 });
  await eventually('the primary is behind', async () => {
    await writeFile(join(primaryHost.workspaceDir, 'late'), 'late');
    return (forPrimary.of('heartbeat').at(-1)?.standbyBehindMs ?? 0) > 0;
  });
  expect(await readFile(join(standbyHost.workspaceDir, 'late'), 'utf8').catch(() => null)).toBeNull();

  // Users are sent to the standby: it serves them and publishes what it has, without being asked.
  expect(await forStandby.run({ name: 'snapshot' })).toMatchObject({ ok: false, code: 'CONFLICT' });
  const workload = { command: 'cp model served; exec sleep 600', restart: true };
  forStandby.assign({ standing: 'primary', epoch: 2, workload, sync: undefined });
  const served = () => readFile(join(standbyHost.workspaceDir, 'served'), 'utf8').catch(() => '');
  await eventually('its command runs', async () => (await served()) === 'weights-2');
  expect((await forStandby.waitFor('snapshot-commit')).epoch).toBe(2);
  await eventually('beats say so', () => forStandby.of('heartbeat').at(-1)?.workload === 'running');
  await standby.logged('sync-ended');
  // It goes on after a crash of the agent, and ends with the epoch.
  await standby.crash();
  await using again = new AgentProcess(forStandby, standbyHost);
  await again.logged('workload-adopted');
  forStandby.assign({ standing: 'fenced', epoch: 3, storage: null });
  await eventually('it is stopped', () => forStandby.of('heartbeat').at(-1)?.workload === 'stopped');
  expect(await forStandby.run({ name: 'snapshot' })).toMatchObject({ ok: false, code: 'CONFLICT' });
});
