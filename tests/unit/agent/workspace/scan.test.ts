import { execFileSync } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { isWithinTick, scanWorkspace } from '@dumont/agent/workspace/scan.ts';
import { loadIgnoreRules } from '@dumont/agent/workspace/ignore.ts';
import { makeTempFolder } from '../../../world/temp-folder.ts';

async function scan(root: string) {
  const { entries, skipped } = await scanWorkspace(root, await loadIgnoreRules(root));
  return { paths: entries.map((entry) => entry.path), skipped };
}

test('folders come before what they hold, and everything is seen but our own temporary files', async () => {
  await using folder = await makeTempFolder();
  await mkdir(join(folder.path, 'a/b/c'), { recursive: true });
  for (const name of ['a/b/c/deep', 'a.txt', '.env', 'a/.dumont-tmp-123', 'a/dumont-tmp', '.git']) {
    await writeFile(join(folder.path, name), '');
  }
  const { paths } = await scan(folder.path);
  expect(paths).toEqual(['.env', '.git', 'a', 'a.txt', 'a/b', 'a/b/c', 'a/b/c/deep', 'a/dumont-tmp']);
});

test('the rule file works like gitignore, with case, and is itself part of the snapshot', async () => {
  await using folder = await makeTempFolder();
  const rules = '# comment\n*.log\n!keep.log\ncache/\n/top\nData\n.dumont-tmp-x\n!.dumont-tmp-y\n';
  await writeFile(join(folder.path, '.dumontignore'), rules);
  await mkdir(join(folder.path, 'sub/cache'), { recursive: true });
  const names = ['x.log', 'keep.log', 'top', 'sub/top', 'sub/cache/f', 'data', 'cache', '.dumont-tmp-y'];
  for (const name of names) await writeFile(join(folder.path, name), '');
  const { paths } = await scan(folder.path);
  expect(paths).toEqual(['.dumontignore', 'cache', 'data', 'keep.log', 'sub', 'sub/top']);
});

test('pipes, sockets and names that are not UTF-8 are named, not lost silently', async () => {
  await using folder = await makeTempFolder();
  execFileSync('mkfifo', [join(folder.path, 'pipe')]);
  await writeFile(Buffer.concat([Buffer.from(`${folder.path}/bad`), Buffer.from([0xff])]), 'x');
  await using server = createServer().listen(join(folder.path, 'socket'));
  await once(server, 'listening');
  const { paths, skipped } = await scan(folder.path);
  expect(paths).toEqual([]);
  expect(skipped.map(({ path, kind }) => ({ path, kind })).toSorted((a, b) => (a.path < b.path ? -1 : 1))).toEqual([
    { path: 'bad\uFFFD', kind: 'bad-name' },
    { path: 'pipe', kind: 'special' },
    { path: 'socket', kind: 'special' },
  ]);
});

test('a missing workspace folder is an error, never an empty snapshot', async () => {
  await using folder = await makeTempFolder();
  await expect(scan(join(folder.path, 'absent'))).rejects.toMatchObject({ code: 'IO' });
});

test('file times are trusted only once their clock has ticked on', () => {
  const state = (ctimeNs: bigint) => ({ size: 0n, mtimeNs: 0n, ctimeNs, ino: 1n, dev: 1n });
  expect(isWithinTick(state(1_000_500_000_000n), 1_000_505)).toBe(true);
  expect(isWithinTick(state(1_000_500_000_000n), 1_000_600)).toBe(false);
  expect(isWithinTick(state(1_000_000_000_000n), 1_001_000)).toBe(true);
  expect(isWithinTick(state(1_000_000_000_000n), 1_003_000)).toBe(false);
});
