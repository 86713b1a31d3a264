import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { must } from '@dumont/shared/util/assert.ts';
import { expect, test } from 'vitest';
import { startInProcess } from '../world/control-plane-in-process.ts';
import { eventually } from '../world/eventually.ts';
import { machineProcesses, Site } from '../world/site.ts';

const PASSWORD = 'known to the operator alone';
const COMMAND = 'test -f plan || echo the plan of the airship > plan; exec sleep 987654';

test('the password of the operator reaches the machines but not the workload, and a failover needs nothing else', async () => {
  await using site = await Site.make();
  await using _ = await startInProcess(site, {}, { SNAPSHOT_PASSWORD: PASSWORD });
  const policy = { raceWidth: 1, snapshotIntervalMs: 500, workload: { command: COMMAND } };
  await site.client.call('provision', { body: { name: 'secret', policy } });
  const view = () => site.client.call('getWorkspace', { params: { workspace: 'secret' } });
  const plan = (providerRef: string | null) => readFile(join(site.paths(providerRef).workspace, 'plan'), 'utf8');
  const primaryId = must(await eventually('it is served', async () => (await view()).primaryInstanceId), 'it is there');
  const primary = await site.client.call('getInstance', { params: { instanceId: primaryId } });
  await eventually('the plan is saved', async () => {
    const written = await plan(primary.providerRef).catch(() => null);
    if (written === null) return false;
    const { snapshot } = await site.client.call('takeSnapshot', { body: { workspace: 'secret' } });
    return snapshot === null || snapshot.fileCount > 0;
  });
  const workers = (await machineProcesses()).filter(({ commandLine }) => commandLine.startsWith('sleep 987654'));
  expect(workers).toHaveLength(1);
  for (const { environment } of workers) expect(environment).not.toContain(PASSWORD);

  await site.faults.lose(must(primary.providerRef, 'it was rented'), 'kill');
  const nextId = await eventually(
    'another machine serves it',
    async () => {
      const { primaryInstanceId } = await view();
      return primaryInstanceId !== null && primaryInstanceId !== primaryId && primaryInstanceId;
    },
    30_000,
  );
  const next = await site.client.call('getInstance', { params: { instanceId: nextId } });
  expect(await plan(next.providerRef)).toBe('the plan of the airship\n');
  const stored = await readdir(site.storePath, { recursive: true, withFileTypes: true });
  expect(stored.map(({ name }) => name)).toContain('keys');
  for (const entry of stored.filter((each) => each.isFile())) {
    const bytes = await readFile(join(entry.parentPath, entry.name));
    expect(bytes.includes('airship') || bytes.includes('"plan"')).toBe(false);
  }
});
