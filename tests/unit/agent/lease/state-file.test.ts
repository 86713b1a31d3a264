import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { StateFile } from '@dumont/agent/lease/state-file.ts';
import { expect, test } from 'vitest';
import { makeTempFolder } from '../../../world/temp-folder.ts';

test('what was remembered is there after a restart, in a folder made on demand', async () => {
  await using folder = await makeTempFolder();
  const path = join(folder.path, 'deep', 'agent.json');
  const file = await StateFile.open(path);
  expect(file.state).toEqual({ highestEpoch: 0, standing: null, workloadWanted: false, savedBeforeMs: null });
  void file.update({ highestEpoch: 3 });
  await file.update({ standing: 'primary', workloadWanted: true });
  expect((await StateFile.open(path)).state).toMatchObject({
    highestEpoch: 3,
    standing: 'primary',
    workloadWanted: true,
  });
});

test('a file that cannot be understood counts as none', async () => {
  await using folder = await makeTempFolder();
  const path = join(folder.path, 'agent.json');
  for (const text of ['', '{', '{"highestEpoch":-1}']) {
    await writeFile(path, text);
    expect((await StateFile.open(path)).state.highestEpoch).toBe(0);
  }
});

test('nothing is written when nothing changes', async () => {
  await using folder = await makeTempFolder();
  const path = join(folder.path, 'agent.json');
  const file = await StateFile.open(path);
  await file.update({ highestEpoch: 0 });
  await expect(readFile(path)).rejects.toMatchObject({ code: 'ENOENT' });
});

test('a state that cannot be written is an error of that write alone', async () => {
  await using folder = await makeTempFolder();
  const path = join(folder.path, 'agent.json');
  const file = await StateFile.open(path);
  const blocked = `${path}.tmp`;
  await mkdir(blocked);
  await expect(file.update({ highestEpoch: 1 })).rejects.toMatchObject({ code: 'IO' });
  await rmdir(blocked);
  await file.update({ highestEpoch: 2 });
  expect((await StateFile.open(path)).state.highestEpoch).toBe(2);
});
