import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { must } from '@dumont/shared/util/assert.ts';
import { expect, test } from 'vitest';
import { startS3Simulator } from '../simulators/s3/s3-simulator.ts';
import { startInProcess } from '../world/control-plane-in-process.ts';
import { eventually } from '../world/eventually.ts';
import { machineProcesses, Site } from '../world/site.ts';

const ACCOUNT = { accessKeyId: 'account-key-id', secretAccessKey: 'known-to-the-control-plane-alone' };
const COMMAND = 'test -f plan || echo the plan of the airship > plan; exec sleep 987653';

test.each(['presigned', 'sts'])(
  'with grants by %s a workspace in a bucket is saved and moved, and no machine ever sees the keys of the bucket',
  async (way) => {
    await using simulator = await startS3Simulator({ ...ACCOUNT, buckets: ['snapshots'] });
    await using site = await Site.make();
    await using _ = await startInProcess(
      site,
      {},
      {
        STORAGE_PROVIDER: 'minio',
        STORAGE_GRANTS: way,
        MINIO_ENDPOINT: simulator.endpoint,
        MINIO_BUCKET: 'snapshots',
        MINIO_KEY_ID: ACCOUNT.accessKeyId,
        MINIO_APPLICATION_KEY: ACCOUNT.secretAccessKey,
      },
    );
    const policy = { raceWidth: 1, snapshotIntervalMs: 500, workload: { command: COMMAND } };
    const { workspaceId } = await site.client.call('provision', { body: { name: 'granted', policy } });
    const view = () => site.client.call('getWorkspace', { params: { workspace: 'granted' } });
    const machine = (instanceId: string) => site.client.call('getInstance', { params: { instanceId } });
    const plan = (ref: string | null) => readFile(join(site.paths(ref).workspace, 'plan'), 'utf8');
    const firstId = must(await eventually('it is served', async () => (await view()).primaryInstanceId), 'it is there');
    const first = await machine(firstId);
    await eventually('the plan is saved', async () => {
      if ((await plan(first.providerRef).catch(() => null)) === null) return false;
      const { snapshot } = await site.client.call('takeSnapshot', { body: { workspace: 'granted' } });
      return snapshot === null || snapshot.fileCount > 0;
    });
    await site.faults.lose(must(first.providerRef, 'it was rented'), 'kill');
    const nextId = await eventually(
      'another machine serves it',
      async () => {
        const { primaryInstanceId } = await view();
        return primaryInstanceId !== null && primaryInstanceId !== firstId && primaryInstanceId;
      },
      30_000,
    );
    expect(await plan((await machine(nextId)).providerRef)).toBe('the plan of the airship\n');
    const keys = [...simulator.objects('snapshots').keys()];
    expect(keys.length).toBeGreaterThan(0);
    expect(keys.filter((key) => !key.startsWith(`workspaces/${workspaceId}/`))).toEqual([]);
    for (const { environment } of await machineProcesses()) expect(environment).not.toContain(ACCOUNT.secretAccessKey);
    const files = await readdir(join(site.dataDirectory, 'machines'), { recursive: true, withFileTypes: true });
    for (const file of files.filter((each) => each.isFile())) {
      const bytes = await readFile(join(file.parentPath, file.name)).catch(() => Buffer.alloc(0));
      expect(bytes.includes(ACCOUNT.secretAccessKey)).toBe(false);
    }
  },
);
