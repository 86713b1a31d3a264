import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { GpuSampler } from '@dumont/agent/host/gpu-sampler.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { expect, test } from 'vitest';
import { eventually } from '../../../world/eventually.ts';
import { makeTempFolder } from '../../../world/temp-folder.ts';

/** Stands in for the driver's tool, which needs a GPU: prints lines recorded from one, then does as told. */
async function fakeDriverTool(folder: string, lines: readonly string[], then: string): Promise<string> {
  const path = join(folder, 'nvidia-smi');
  const prints = lines.map((line) => `printf '%s\\n' '${line}'`).join('\n');
  await writeFile(path, `#!/bin/sh\necho "$$ $*" >> "${folder}/starts"\n${prints}\n${then}\n`, { mode: 0o755 });
  return path;
}

const TWO_GPUS = [
  '1, NVIDIA A100-SXM4-40GB, 50, 2000, 40960, 41, 201.10',
  '0, NVIDIA A100-SXM4-40GB, [N/A], 1000, 40960, 39, [N/A]',
];

function samplerOf(command: string): GpuSampler {
  const log = createLogger('test', 'silent');
  const restart = { baseMs: 10, capMs: 20 };
  return new GpuSampler({ command, clock: systemClock, random: seededRandom(1), log, restart, absentRetryMs: 20 });
}

test('samples stream from one process, ordered by index', async () => {
  await using folder = await makeTempFolder();
  await using sampler = samplerOf(await fakeDriverTool(folder.path, TWO_GPUS, 'exec sleep 60'));
  sampler.start();
  await eventually('both GPUs are known', () => sampler.latest().length === 2);
  expect(sampler.latest().map((gpu) => gpu.index)).toEqual([0, 1]);
  expect(sampler.utilPct()).toBe(50);
});

test('a machine without the tool has no GPUs, and a tool installed later is found', async () => {
  await using folder = await makeTempFolder();
  const path = join(folder.path, 'nvidia-smi');
  await using sampler = samplerOf(path);
  sampler.start();
  expect(sampler.latest()).toEqual([]);
  expect(sampler.utilPct()).toBeNull();
  await fakeDriverTool(folder.path, TWO_GPUS, 'exec sleep 60');
  await eventually('the tool is found', () => sampler.latest().length === 2);
});

test('a tool that dies is started again, and until it answers nothing old is reported', async () => {
  await using folder = await makeTempFolder();
  const path = await fakeDriverTool(folder.path, TWO_GPUS, 'sleep 0.2; exit 9');
  await using sampler = samplerOf(path);
  sampler.start();
  await eventually('samples', () => sampler.latest().length === 2);
  await rm(path);
  await eventually('the samples are forgotten', () => sampler.latest().length === 0);
  await fakeDriverTool(folder.path, TWO_GPUS, 'exec sleep 60');
  await eventually('samples again', () => sampler.latest().length === 2);
});
