import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { HostSampler } from '@dumont/agent/host/host-sampler.ts';
import { sampleSchema } from '@dumont/shared/protocol/heartbeat.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { expect, test } from 'vitest';
import { ManualClock } from '../../../world/manual-clock.ts';
import { makeTempFolder } from '../../../world/temp-folder.ts';

test('a sample of this very machine fits the protocol, and the second one knows the network rates', async () => {
  const clock = new ManualClock();
  const sampler = new HostSampler({ workspaceDir: import.meta.dirname, clock });
  expect(await sampler.sample()).toMatchObject({ networkRxBytesPerSecond: null, networkTxBytesPerSecond: null });
  await clock.advance(1_000);
  const host = await sampler.sample();
  expect(sampleSchema.parse({ kind: 'sample', gpus: [], host }).host).toEqual(host);
  expect(host.memoryUsedBytes).toBeLessThanOrEqual(host.memoryTotalBytes);
  expect(host.diskTotalBytes).toBeGreaterThan(0);
  expect(host.networkRxBytesPerSecond).toBeGreaterThanOrEqual(0);
});

test('a workspace folder that does not exist yet leaves only the disk unknown', async () => {
  const host = await new HostSampler({ workspaceDir: '/there/is/no/such/folder', clock: systemClock }).sample();
  expect(host.diskTotalBytes).toBeNull();
  expect(host.memoryTotalBytes).toBeGreaterThan(0);
});

test('load and rates are differences to the sample before, loopback left out', async () => {
  await using folder = await makeTempFolder();
  const clock = new ManualClock();
  const sampler = new HostSampler({ workspaceDir: folder.path, clock, procDir: folder.path });
  await writeProc(folder.path, { cpu: '100 0 100 700 100 0 0 0 50 0', eth0: [1_000, 500] });
  expect(await sampler.sample()).toMatchObject({
    cpuPct: 20,
    memoryTotalBytes: 8_000 * 1_024,
    memoryUsedBytes: 3_000 * 1_024,
  });
  await clock.advance(2_000);
  await writeProc(folder.path, { cpu: '150 0 100 740 110 0 0 0 90 0', eth0: [5_000, 900] });
  expect(await sampler.sample()).toMatchObject({
    cpuPct: 50,
    networkRxBytesPerSecond: 2_000,
    networkTxBytesPerSecond: 200,
  });
});

test('a host whose figures cannot be read is an error of ours', async () => {
  const sampler = new HostSampler({ workspaceDir: '/', clock: systemClock, procDir: '/there/is/no/such/folder' });
  await expect(sampler.sample()).rejects.toMatchObject({ code: 'IO' });
});

interface Figures {
  readonly cpu: string;
  /** Bytes received and sent. */
  readonly eth0: readonly [number, number];
}

async function writeProc(folder: string, { cpu, eth0: [rx, tx] }: Figures): Promise<void> {
  await mkdir(join(folder, 'net'), { recursive: true });
  await writeFile(join(folder, 'stat'), `cpu  ${cpu}\ncpu0 ${cpu}\nintr 1 2\n`);
  await writeFile(join(folder, 'meminfo'), 'MemTotal:        8000 kB\nMemFree: 1000 kB\nMemAvailable:    5000 kB\n');
  const line = (name: string, received: number, sent: number) =>
    `${name.padStart(6)}: ${received}  7 0 0 0 0 0 0 ${sent} 9 0 0 0 0 0 0\n`;
  const head = 'Inter-|   Receive | Transmit\n face |bytes packets|bytes packets\n';
  await writeFile(join(folder, 'net/dev'), head + line('lo', 999_999, 999_999) + line('eth0', rx, tx));
}
