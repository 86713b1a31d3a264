import { randomBytes } from 'node:crypto';
import { chmod, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { askNvidiaSmi } from '@dumont/agent/host/ask-nvidia-smi.ts';
import { readProbe, writeProbe } from '@dumont/agent/host/disk-probe.ts';
import { probeHash } from '@dumont/shared/node/probe-content.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { expect, test } from 'vitest';
import { makeTempFolder } from '../../../world/temp-folder.ts';

const SIZE = 2_500_000;
const { signal } = new AbortController();

test('a probe file has the content that its nonce says, written and read back', async () => {
  await using folder = await makeTempFolder();
  const nonce = randomBytes(16).toString('hex');
  const options = { folder: folder.path, nonce, clock: systemClock, signal };
  const expected = { sha256: probeHash(nonce, SIZE), bytes: SIZE };
  expect(await writeProbe({ ...options, sizeBytes: SIZE })).toMatchObject(expected);
  expect(await readProbe(options)).toMatchObject(expected);
  const [name] = await readdir(folder.path);
  await writeFile(join(folder.path, must(name, 'it was written')), 'something else');
  expect((await readProbe(options)).sha256).not.toBe(expected.sha256);
  await expect(readProbe({ ...options, nonce: 'ab'.repeat(16) })).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

test.each([
  [
    'GPUs',
    `echo '570.1, 0, NVIDIA L4, 3, 1, 23034, 40, 16.1'; echo '570.1, 1, NVIDIA L4, 0, 1, 23034, 41, 16.0'`,
    2,
    true,
  ],
  ['a driver that is broken', 'echo "Failed to initialize NVML"; exit 9', 0, false],
] as const)('nvidia-smi is asked once: %s', async (_, script, count, isThere) => {
  await using folder = await makeTempFolder();
  const command = join(folder.path, 'nvidia-smi');
  await writeFile(command, `#!/bin/sh\n${script}\n`);
  await chmod(command, 0o755);
  const answer = await askNvidiaSmi(command, { clock: systemClock, signal });
  expect(answer.gpus).toHaveLength(count);
  expect(answer).toMatchObject({ isThere, driver: count === 0 ? null : '570.1' });
  if (!isThere) expect(answer.error).toContain('Failed to initialize NVML');
});

test('a machine without nvidia-smi is an answer, not a failure', async () => {
  const answer = await askNvidiaSmi('/nonexistent/nvidia-smi', { clock: systemClock, signal });
  expect(answer).toMatchObject({ isThere: false, gpus: [], error: expect.stringContaining('there is no') });
});
