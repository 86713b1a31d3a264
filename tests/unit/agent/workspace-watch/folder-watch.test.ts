import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FolderWatch } from '@dumont/agent/workspace/folder-watch.ts';
import { expect, test } from 'vitest';
import { eventually } from '../../../world/eventually.ts';
import { makeTempFolder } from '../../../world/temp-folder.ts';

interface Seen extends Disposable {
  readonly paths: Set<string | null>;
  readonly failures: unknown[];
  /** Forgets what was seen so far, then waits for this path. */
  next(path: string, act: () => Promise<unknown>): Promise<void>;
}

async function watching(root: string): Promise<Seen> {
  const paths = new Set<string | null>();
  const failures: unknown[] = [];
  const watch = new FolderWatch({
    root,
    ignores: (path) => path === 'ignored' || path.startsWith('ignored/'),
    onChange: (path) => paths.add(path),
    onFailure: (error) => failures.push(error),
  });
  await watch.start();
  return {
    paths,
    failures,
    async next(path, act) {
      paths.clear();
      await act();
      await eventually(`${path} is told of`, () => paths.has(path));
    },
    [Symbol.dispose]: () => watch[Symbol.dispose](),
  };
}

test('a file in a folder that was there is told of by its path', async () => {
  await using folder = await makeTempFolder();
  const file = join(folder.path, 'a/b/file');
  await mkdir(join(folder.path, 'a/b'), { recursive: true });
  await writeFile(file, '1');
  using seen = await watching(folder.path);
  await seen.next('a/b/file', () => writeFile(file, '2'));
  await seen.next('a/b/file', () => rm(file));
});

test('all that a new tree holds is told of, also what came before its watch', async () => {
  await using folder = await makeTempFolder();
  using seen = await watching(folder.path);
  await seen.next('new/deep/file', async () => {
    await mkdir(join(folder.path, 'new/deep'), { recursive: true });
    await writeFile(join(folder.path, 'new/deep/file'), '1');
  });
  await seen.next('new/deep/file', () => writeFile(join(folder.path, 'new/deep/file'), '2'));
});

test('a folder that moved is told of by its new path, and the old one by nothing', async () => {
  await using folder = await makeTempFolder();
  await mkdir(join(folder.path, 'old/deep'), { recursive: true });
  using seen = await watching(folder.path);
  await seen.next('new/deep', () => rename(join(folder.path, 'old'), join(folder.path, 'new')));
  await seen.next('new/deep/file', () => writeFile(join(folder.path, 'new/deep/file'), '1'));
  expect([...seen.paths].filter((path) => path?.startsWith('old'))).toEqual([]);
});

test('a folder made anew under the name of one removed is watched again', async () => {
  await using folder = await makeTempFolder();
  const path = join(folder.path, 'again');
  await mkdir(path);
  using seen = await watching(folder.path);
  for (let round = 0; round < 5; round += 1) {
    await rm(path, { recursive: true });
    await seen.next('again', () => mkdir(path));
    await seen.next('again/file', () => writeFile(join(path, 'file'), String(round)));
  }
});

test('neither ignored folders nor what links lead to are watched', async () => {
  await using folder = await makeTempFolder();
  await using other = await makeTempFolder();
  await mkdir(join(folder.path, 'ignored'));
  await symlink(other.path, join(folder.path, 'link'));
  using seen = await watching(folder.path);
  await seen.next('last', async () => {
    await writeFile(join(folder.path, 'ignored/file'), '1');
    await writeFile(join(other.path, 'file'), '1');
    await writeFile(join(folder.path, 'last'), '1');
  });
  expect([...seen.paths]).toEqual(['last']);
  expect(seen.failures).toEqual([]);
});

test('a root that is not there is a failure, told once', async () => {
  await using folder = await makeTempFolder();
  using seen = await watching(join(folder.path, 'absent'));
  expect(seen.failures).toHaveLength(1);
});
