import { sampleHost } from '@dumont/agent/host/host-sampler.ts';
import { sampleSchema } from '@dumont/shared/protocol/heartbeat.ts';
import { expect, test } from 'vitest';

test('a sample of this very machine fits the protocol, and the second one knows the network rates', async () => {
  await sampleHost(import.meta.dirname);
  const host = await sampleHost(import.meta.dirname);
  expect(sampleSchema.parse({ kind: 'sample', gpus: [], host }).host).toEqual(host);
  expect(host.memoryUsedBytes).toBeLessThanOrEqual(host.memoryTotalBytes);
  expect(host.diskTotalBytes).toBeGreaterThan(0);
});

test('a workspace folder that does not exist yet leaves only the disk unknown', async () => {
  const host = await sampleHost('/there/is/no/such/folder');
  expect(host.diskTotalBytes).toBeNull();
  expect(host.memoryTotalBytes).toBeGreaterThan(0);
});
