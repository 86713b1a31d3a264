import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openSecrets } from '@dumont/agent/secrets/key-ring.ts';
import { FileStore } from '@dumont/agent/storage/file-store.ts';
import { expect, test } from 'vitest';
import { AgentProcess, makeHost } from '../world/agent-process.ts';
import { AgentSocketServer, testAssignment } from '../world/agent-socket-server.ts';
import { QUICK_KEY } from '../world/quick-key.ts';
import { makeTempFolder } from '../world/temp-folder.ts';

const SECRET = 'weights worth a fortune';
const env = { SNAPSHOT_PASSWORD: 'open sesame' };

async function contentsOf(folder: string): Promise<readonly Buffer[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return Promise.all(files.map((path) => readFile(path)));
}

test('an agent with a password stores nothing readable, and only one with the password restores it', async () => {
  await using folder = await makeTempFolder();
  const store = join(folder.path, 'store');
  await mkdir(store);
  await using server = await AgentSocketServer.start(testAssignment(store, { standing: 'primary' }));
  const host = await makeHost(folder.path);
  await writeFile(join(host.workspaceDir, 'precious name'), SECRET);
  await using primary = new AgentProcess(server, { ...host, env });
  await server.waitFor('snapshot-commit');
  await primary.crash();
  const { head, storage, workspaceId } = server.assignment;
  if (head === null) throw new Error('there is no head');
  const stored = await contentsOf(store);
  expect(stored.length).toBeGreaterThanOrEqual(3);
  for (const bytes of stored) expect(bytes.includes(SECRET) || bytes.includes('precious')).toBe(false);
  expect(primary.stderr).not.toContain(env.SNAPSHOT_PASSWORD);

  const assignment = testAssignment('', { storage, workspaceId, head, epoch: 2 });
  for (const given of [{ SNAPSHOT_PASSWORD: 'wrong' }, env]) {
    await using nextServer = await AgentSocketServer.start(assignment);
    const nextHost = await makeHost(folder.path, `next-${given.SNAPSHOT_PASSWORD.length}`);
    await using _ = new AgentProcess(nextServer, { ...nextHost, env: given });
    await nextServer.waitFor('heartbeat');
    const restored = await nextServer.run({ name: 'restore', snapshot: head });
    if (given !== env) {
      expect(restored).toMatchObject({ ok: false, code: 'UNAUTHORIZED' });
      expect(await readdir(nextHost.workspaceDir)).toEqual([]);
      continue;
    }
    expect(restored).toMatchObject({ ok: true });
    expect(await readFile(join(nextHost.workspaceDir, 'precious name'), 'utf8')).toBe(SECRET);
    nextServer.assign({ standing: 'primary' });
    await writeFile(join(nextHost.workspaceDir, 'more'), 'more');
    expect(await nextServer.waitFor('snapshot-commit')).toMatchObject({ snapshot: { parentId: head.snapshotId } });
  }
});

test('an agent goes on with the master of its head where two first writers missed each other', async () => {
  await using folder = await makeTempFolder();
  const path = join(folder.path, 'store');
  await mkdir(path);
  await using server = await AgentSocketServer.start(testAssignment(path, { standing: 'primary' }));
  const host = await makeHost(folder.path);
  await writeFile(join(host.workspaceDir, 'a'), 'one');
  await using agent = new AgentProcess(server, { ...host, env });
  await server.waitFor('snapshot-commit');
  await agent.crash();
  const { head, storage, workspaceId } = server.assignment;
  if (head === null) throw new Error('there is no head');

  // Another first writer's key appears late, of a master before or after the first one's.
  const elsewhere = new FileStore(join(folder.path, 'elsewhere'));
  for (let made = 0; made < 4; made += 1) {
    await openSecrets(elsewhere, env.SNAPSHOT_PASSWORD, { create: QUICK_KEY });
    for await (const { key } of elsewhere.list('keys/')) {
      await new FileStore(path).put(key, await elsewhere.get(key));
      await elsewhere.delete(key);
    }
  }
  const assignment = testAssignment('', { storage, workspaceId, head, epoch: 2 });
  await using nextServer = await AgentSocketServer.start(assignment);
  const nextHost = await makeHost(folder.path, 'next');
  await using _ = new AgentProcess(nextServer, { ...nextHost, env });
  await nextServer.waitFor('heartbeat');
  expect(await nextServer.run({ name: 'restore', snapshot: head })).toMatchObject({ ok: true });
  nextServer.assign({ standing: 'primary' });
  await writeFile(join(nextHost.workspaceDir, 'b'), 'two');
  expect(await nextServer.waitFor('snapshot-commit')).toMatchObject({ snapshot: { parentId: head.snapshotId } });
});
