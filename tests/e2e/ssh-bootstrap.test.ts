import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { expect, test } from 'vitest';
import { startS3Simulator } from '../simulators/s3/s3-simulator.ts';
import { startVastSimulator } from '../simulators/vast/vast-simulator.ts';
import { builtAgent } from '../world/agent-build.ts';
import { ControlPlaneProcess } from '../world/control-plane-process.ts';
import { eventually } from '../world/eventually.ts';
import { Site } from '../world/site.ts';

const ACCOUNT = { accessKeyId: 'account-key-id', secretAccessKey: 'known-to-the-control-plane-alone' };
/** The three cheapest that fit: one whose start script fails, one that lets nobody in either, and a good one. */
const [NO_START, NO_SSH] = [31505072, 31507098];

/** As root each machine gets a root of its own, in which the agent can be installed as in a container. */
const onMachines = test.skipIf(process.getuid?.() !== 0 || !existsSync('/usr/sbin/sshd'));

onMachines(
  'a machine whose start script does not run is installed over SSH, and its host remembered',
  { timeout: 240_000 },
  async () => {
    await using bucket = await startS3Simulator({ ...ACCOUNT, buckets: ['snapshots'] });
    await using vast = await startVastSimulator({ speed: 40, isCalm: true });
    for (const ask of vast.market.asks.keys()) {
      vast.inflict({ kind: 'behaviour', offer: ask, behaviour: ask === NO_SSH ? 'no-ssh' : 'no-start' });
      if (ask !== NO_START) vast.inflict({ kind: 'withdraw', offer: ask });
    }
    await using site = await Site.make();
    const agent = await builtAgent();
    await using controlPlane = await ControlPlaneProcess.start(site, undefined, {
      DUMONT_LOCAL_PROVIDER: 'false',
      DUMONT_VAST_API_KEY: vast.apiKey,
      DUMONT_VAST_URL: vast.url,
      DUMONT_VAST_IMAGE: 'ubuntu:24.04',
      DUMONT_BOOT_DEADLINE_MS: '60000',
      DUMONT_DOWNLOADS_DIR: dirname(agent.directory),
      STORAGE_PROVIDER: 'minio',
      MINIO_ENDPOINT: bucket.endpoint,
      MINIO_BUCKET: 'snapshots',
      MINIO_KEY_ID: ACCOUNT.accessKeyId,
      MINIO_APPLICATION_KEY: ACCOUNT.secretAccessKey,
    });
    const { client } = site;
    await client.call('provision', { body: { name: 'airship', policy: { raceWidth: 1 } } });
    const view = () => client.call('getWorkspace', { params: { workspace: 'airship' } });
    await eventually('a machine serves it', async () => (await view()).primaryInstanceId, 120_000);
    const { items } = await client.call('listEvents', { query: { after: 0 } });
    const ssh = items.find(({ type }) => type === 'machine.ssh-install');
    expect(ssh?.instanceId).toBe((await view()).primaryInstanceId);
    expect(controlPlane.log).not.toContain('PRIVATE KEY');
    expect(vast.throttled).toEqual([]);
  },
);
