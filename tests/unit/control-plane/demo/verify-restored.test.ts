import { execFile } from 'node:child_process';
import {
  appendFile,
  chmod,
  link,
  lstat,
  mkdir,
  readFile,
  rename,
  rm,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { TRAINING_FOLDER, stageWorkspace } from '@dumont/control-plane/demo/stage.ts';
import { accountOf, accountOfPath } from '@dumont/control-plane/demo/tree-account.ts';
import type { Promised } from '@dumont/control-plane/demo/verify-restored.ts';
import { verifyRestored } from '@dumont/control-plane/demo/verify-restored.ts';
import { Witness } from '@dumont/control-plane/demo/witness.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { expect, test } from 'vitest';
import { eventually } from '../../../world/eventually.ts';
import { makeTempFolder } from '../../../world/temp-folder.ts';

const T0 = 1_700_000_000_000;
const SNAPSHOT_AT_MS = T0 + 10_000;
const LOG = join(TRAINING_FOLDER, 'logs', 'train.log');
const [FIRST, SECOND] = ['step-00000020.ckpt', 'step-00000040.ckpt'].map((name) =>
  join(TRAINING_FOLDER, 'checkpoints', name),
) as [string, string];

/** A machine's folder after 50 steps, what a witness of it would promise, and the folder restored from it. */
async function restoredWorld(root: string) {
  const [before, after] = [join(root, 'before'), join(root, 'after')];
  await stageWorkspace(before, undefined);
  const original = await accountOf(before, new Set([TRAINING_FOLDER]));
  for (const folder of ['logs', 'checkpoints']) await mkdir(join(before, TRAINING_FOLDER, folder));
  const lines = Array.from({ length: 50 }, (_, index) => `${T0 + index * 100} step ${index + 1} loss 0.5\n`);
  await writeFile(join(before, LOG), lines.join(''));
  for (const path of [FIRST, SECOND]) await writeFile(join(before, path), `weights of ${path}`);
  const seen = async (path: string, completedAtMs: number) => ({
    path,
    completedAtMs,
    account: must(await accountOfPath(join(before, path)), 'it was just written'),
  });
  const promised: Promised = {
    original,
    checkpoints: [await seen(FIRST, T0 + 2_000), await seen(SECOND, T0 + 4_000)],
    log: await readFile(join(before, LOG)),
    snapshotStartedAtMs: SNAPSHOT_AT_MS,
  };
  // Node's own copy rounds times to milliseconds.
  await promisify(execFile)('cp', ['-a', before, after]);
  await appendFile(join(after, LOG), `${T0 + 30_000} resumed from step-00000040.ckpt\n`);
  return { after, promised };
}

test('a workspace restored to the byte keeps every promise', async () => {
  await using folder = await makeTempFolder();
  const { after, promised } = await restoredWorld(folder.path);
  expect(await verifyRestored(after, promised)).toEqual({
    filesVerified: promised.original.size + 3,
    wrong: [],
    resumedFrom: 'step-00000040.ckpt',
    resumedAtMs: T0 + 30_000,
    stepsRepeated: 10,
  });
});

/** Rewrites one byte without anything else about the file changing. */
async function flipByte(path: string): Promise<void> {
  const { mtimeMs, atimeMs } = await lstat(path);
  const bytes = await readFile(path);
  bytes[7] = (bytes[7] ?? 0) ^ 1;
  await writeFile(path, bytes);
  await utimes(path, atimeMs / 1_000, mtimeMs / 1_000);
}

test.each<[name: string, harm: (root: string) => Promise<unknown>, told: RegExp]>([
  ['a flipped byte', (root) => flipByte(join(root, 'data/shard-2.bin')), /^data\/shard-2\.bin: is file/],
  ['a missing file', (root) => rm(join(root, 'notes/empty.txt')), /^notes\/empty\.txt: missing$/],
  ['an extra file', (root) => writeFile(join(root, 'extra'), ''), /^extra: should not exist$/],
  ['an extra folder', (root) => mkdir(join(root, 'outputs/extra')), /^outputs\/extra: should not exist$/],
  ['a missing empty folder', (root) => rm(join(root, 'outputs'), { recursive: true }), /^outputs: missing$/],
  [
    'changed permissions',
    (root) => chmod(join(root, 'scripts/evaluate.sh'), 0o644),
    /^scripts\/evaluate\.sh: is file 644/,
  ],
  ['a changed time', (root) => utimes(join(root, 'src/model.py'), 1, 1), /^src\/model\.py: is file/],
  [
    'a link that leads elsewhere',
    async (root) => {
      await rm(join(root, 'model'));
      await symlink('src/other.py', join(root, 'model'));
    },
    /^model: is link to src\/other\.py, should be link to src\/model\.py$/,
  ],
  ['a missing checkpoint', (root) => rm(join(root, FIRST)), /step-00000020\.ckpt: missing$/],
  ['a truncated checkpoint', (root) => truncate(join(root, SECOND), 5), /step-00000040\.ckpt: is file/],
  ['a truncated log', (root) => truncate(join(root, LOG), 400), /train\.log: its first \d+ bytes are not those/],
  ['a log with a flipped byte', (root) => flipByte(join(root, LOG)), /train\.log: its first/],
])('%s is found', async (_, harm, told) => {
  await using folder = await makeTempFolder();
  const { after, promised } = await restoredWorld(folder.path);
  await harm(after);
  const { wrong } = await verifyRestored(after, promised);
  expect(wrong.filter((line) => told.test(line))).toHaveLength(1);
});

test('what was finished after the snapshot began is not owed', async () => {
  await using folder = await makeTempFolder();
  const { after, promised } = await restoredWorld(folder.path);
  await rm(join(after, SECOND));
  await writeFile(join(after, LOG), promised.log.subarray(0, 900));
  await appendFile(join(after, LOG), `\n${T0 + 30_000} resumed from step-00000020.ckpt\n`);
  const earlier = { ...promised, snapshotStartedAtMs: T0 + 2_500 };
  expect(await verifyRestored(after, earlier)).toMatchObject({
    wrong: [],
    resumedFrom: 'step-00000020.ckpt',
    stepsRepeated: 30,
  });
});

test('a workload that starts over, or goes on from a checkpoint nobody saw, breaks the promise', async () => {
  await using folder = await makeTempFolder();
  const { after, promised } = await restoredWorld(folder.path);
  await writeFile(join(after, LOG), promised.log);
  expect(await verifyRestored(after, promised)).toMatchObject({
    wrong: ['the workload did not go on from a checkpoint'],
    resumedFrom: null,
  });
  await appendFile(join(after, LOG), `${T0 + 30_000} resumed from step-00099999.ckpt\n`);
  const { wrong } = await verifyRestored(after, promised);
  expect(wrong).toEqual(['the workload went on from step-00099999.ckpt, which it had not written before']);
});

test('the witness notes complete checkpoints and the whole log, and keeps its notes when the disk goes away', async () => {
  await using folder = await makeTempFolder();
  const root = join(folder.path, 'machine');
  await using witness = new Witness(root, systemClock);
  for (const name of ['logs', 'checkpoints']) await mkdir(join(root, TRAINING_FOLDER, name), { recursive: true });
  await writeFile(join(root, LOG), 'one\n');
  await writeFile(join(root, `${TRAINING_FOLDER}/checkpoints/.step-00000020.ckpt.tmp`), 'half');
  await writeFile(join(root, FIRST), 'whole');
  await eventually('the checkpoint is seen', () => witness.checkpoints.length === 1);
  const [seen] = witness.checkpoints;
  expect(seen?.path).toBe(FIRST);
  expect(seen?.account).toBe(await accountOfPath(join(root, FIRST)));
  expect(Math.abs((seen?.completedAtMs ?? 0) - systemClock.nowMs())).toBeLessThan(60_000);
  await appendFile(join(root, LOG), 'two\n');
  await eventually('the log is read', () => witness.log.toString() === 'one\ntwo\n');
  await rename(root, `${root}-gone`);
  await witness[Symbol.asyncDispose]();
  expect(witness.checkpoints).toHaveLength(1);
  expect(witness.log.toString()).toBe('one\ntwo\n');
});

test("a staged workspace is a copy of the user's folder with the training beside it; the original stays as it was", async () => {
  await using folder = await makeTempFolder();
  const [source, target] = [join(folder.path, 'source'), join(folder.path, 'target')];
  await mkdir(join(source, 'deep'), { recursive: true });
  await writeFile(join(source, 'deep', 'a'), 'content');
  await link(join(source, 'deep', 'a'), join(source, 'same'));
  await symlink('deep/a', join(source, 'pointer'));
  const before = await accountOf(source, new Set());
  await stageWorkspace(target, source);
  expect(await accountOf(source, new Set())).toEqual(before);
  const staged = await accountOf(target, new Set([TRAINING_FOLDER]));
  const withoutTimes = (accounts: ReadonlyMap<string, string>) =>
    [...accounts].map(([path, account]) => [path, account.replace(/(file \d+ \d+) \d+/, '$1')]);
  expect(withoutTimes(staged)).toEqual(withoutTimes(before));
  expect((await lstat(join(target, TRAINING_FOLDER, 'train.mjs'))).isFile()).toBe(true);
  await expect(stageWorkspace(join(folder.path, 't2'), join(folder.path, 'none'))).rejects.toMatchObject({
    code: 'IO',
    field: '--workspace',
  });
});
