import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { must } from '@dumont/shared/util/assert.ts';
import { expect, test } from 'vitest';
import { startS3Simulator } from '../simulators/s3/s3-simulator.ts';
import { startVastSimulator, type VastSimulator } from '../simulators/vast/vast-simulator.ts';
import { builtAgent } from '../world/agent-build.ts';
import { ControlPlaneProcess } from '../world/control-plane-process.ts';
import { eventually } from '../world/eventually.ts';
import { Site } from '../world/site.ts';

const ACCOUNT = { accessKeyId: 'account-key-id', secretAccessKey: 'known-to-the-control-plane-alone' };
const COMMAND = 'test -f plan || echo the plan of the airship > plan; exec sleep 987651';

/** As root each machine gets a root of its own, in which the agent can be installed as in a container. */
const onMachines = test.skipIf(process.getuid?.() !== 0 || !existsSync('/usr/sbin/sshd'));

onMachines(
  'a workspace on Vast.ai is installed, saved, outbid, moved to another offer and given back, with nothing left behind',
  { timeout: 240_000 },
  async () => {
    await using bucket = await startS3Simulator({ ...ACCOUNT, buckets: ['snapshots'] });
    await using vast = await startVastSimulator({ speed: 40, isCalm: true });
    await using site = await Site.make();
    const agent = await builtAgent();
    await using controlPlane = await ControlPlaneProcess.start(site, undefined, {
      DUMONT_LOCAL_PROVIDER: 'false',
      DUMONT_VAST_API_KEY: vast.apiKey,
      DUMONT_VAST_URL: vast.url,
      DUMONT_VAST_IMAGE: 'ubuntu:24.04',
      DUMONT_DOWNLOADS_DIR: dirname(agent.directory),
      STORAGE_PROVIDER: 'minio',
      MINIO_ENDPOINT: bucket.endpoint,
      MINIO_BUCKET: 'snapshots',
      MINIO_KEY_ID: ACCOUNT.accessKeyId,
      MINIO_APPLICATION_KEY: ACCOUNT.secretAccessKey,
    });
    const { client } = site;
    const policy = { raceWidth: 1, snapshotIntervalMs: 500, workload: { command: COMMAND } };
    await client.call('provision', { body: { name: 'airship', policy } });
    const view = () => client.call('getWorkspace', { params: { workspace: 'airship' } });
    const firstId = await eventually('a machine serves it', async () => (await view()).primaryInstanceId, 90_000);
    const first = await client.call('getInstance', { params: { instanceId: must(firstId, 'it is there') } });
    const firstRef = Number(first.providerRef);
    expect(await planOn(vast, firstRef)).toBe('the plan of the airship\n');
    await eventually('the plan is saved', async () => {
      const { snapshot } = await client.call('takeSnapshot', { body: { workspace: 'airship' } });
      return snapshot === null || snapshot.fileCount > 0;
    });

    // Lost before that, the machine would be replaced by the same provisioning.
    await eventually('it is provisioned', async () => {
      const { items } = await client.call('listEvents', { query: { limit: 500 } });
      return items.some(({ type }) => type === 'operation.finished');
    });
    vast.inflict({ kind: 'outbid', instance: firstRef });
    const nextId = await eventually(
      'another machine serves it',
      async () => {
        const { primaryInstanceId: id } = await view();
        return id !== null && id !== firstId && id;
      },
      90_000,
    );
    const next = await client.call('getInstance', { params: { instanceId: must(nextId, 'it is there') } });
    expect(next.machineId).not.toBe(first.machineId);
    expect(await planOn(vast, Number(next.providerRef))).toBe('the plan of the airship\n');
    await eventually('the outbid machine is destroyed', () => !vast.account.contracts.has(firstRef), 60_000);

    await eventually(
      'the failover is over',
      async () => {
        const { items } = await client.call('listFailovers', { query: { workspace: 'airship' } });
        return items.length === 1 && items[0]?.success === true;
      },
      60_000,
    );
    await client.call('destroyInstance', { params: { instanceId: next.instanceId } });
    await eventually('nothing is rented', () => vast.account.contracts.size === 0, 60_000);
    expect(vast.account.history.every(({ isBid }) => isBid)).toBe(true);
    expect(new Set(vast.account.history.map(({ label }) => label)).size).toBe(vast.account.history.length);
    expect(vast.throttled).toEqual([]);
    expect(controlPlane.log).not.toContain(vast.apiKey);
  },
);

/** The workload's file on a machine's own disk. */
async function planOn(vast: VastSimulator, id: number): Promise<string | false> {
  const { machine } = must(vast.account.contracts.get(id), 'it is rented');
  return eventually('the workload has begun', () =>
    readFile(join(machine.root, 'workspace/plan'), 'utf8').then(
      (text) => text.endsWith('\n') && text,
      () => false as const,
    ),
  );
}
