import { execFile } from 'node:child_process';
import { appendFile, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { WorkspaceWatcher } from '@dumont/agent/workspace/watch.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { expect, test } from 'vitest';
import { eventually } from '../../../world/eventually.ts';
import { makeTempFolder } from '../../../world/temp-folder.ts';

interface Watched {
  readonly watcher: WorkspaceWatcher;
  firstDirtyCount: number;
}

async function watchFolder(root: string, maxDirtyPaths?: number): Promise<Watched> {
  const watched = { firstDirtyCount: 0 };
  const watcher = new WorkspaceWatcher({
    root,
    ignore: { ignores: (path) => path === 'cache' || path.startsWith('cache/') },
    clock: systemClock,
    log: createLogger('test', 'silent'),
    onFirstDirty: () => {
      watched.firstDirtyCount += 1;
    },
    ...(maxDirtyPaths === undefined ? {} : { maxDirtyPaths }),
  });
  await watcher.start();
  return Object.assign(watched, { watcher });
}

/** Takes until the path shows up; gives everything seen up to then. */
async function seeDirty(watcher: WorkspaceWatcher, path: string): Promise<Set<string>> {
  const seen = new Set<string>();
  await eventually(`${path} is dirty`, () => {
    const paths = watcher.take()?.paths ?? [];
    for (const one of paths) seen.add(one);
    return seen.has(path);
  });
  return seen;
}

test('everything is dirty at the start, because nobody knows what happened before', async () => {
  await using folder = await makeTempFolder();
  const { watcher, firstDirtyCount } = await watchFolder(folder.path);
  await using _ = watcher;
  expect(firstDirtyCount).toBe(1);
  expect(watcher.take()?.paths).toBe('everything');
  expect(watcher.isDirty).toBe(false);
});

test('writes, new folders, renames and removals become dirty; ignored paths do not', async () => {
  await using folder = await makeTempFolder();
  await writeFile(join(folder.path, 'old'), '1');
  const { watcher } = await watchFolder(folder.path);
  await using _ = watcher;
  watcher.take();
  await mkdir(join(folder.path, 'cache'));
  await writeFile(join(folder.path, 'cache', 'x'), '1');
  await appendFile(join(folder.path, 'old'), '2');
  await seeDirty(watcher, 'old');
  await mkdir(join(folder.path, 'deep', 'er'), { recursive: true });
  await writeFile(join(folder.path, 'deep', 'er', 'new'), '1');
  await seeDirty(watcher, 'deep/er/new');
  await rename(join(folder.path, 'old'), join(folder.path, 'renamed'));
  const seen = await seeDirty(watcher, 'renamed');
  await rm(join(folder.path, 'renamed'));
  for (const path of await seeDirty(watcher, 'renamed')) seen.add(path);
  expect([...seen].some((path) => path.startsWith('cache'))).toBe(false);
});

test('the first change after a take is announced once', async () => {
  await using folder = await makeTempFolder();
  const watched = await watchFolder(folder.path);
  await using _ = watched.watcher;
  watched.watcher.take();
  for (let index = 0; index < 20; index += 1) await writeFile(join(folder.path, `f${index}`), '1');
  await eventually('a change is announced', () => watched.firstDirtyCount === 2);
  expect(watched.firstDirtyCount).toBe(2);
});

test('more changes than the bound turn into everything', async () => {
  await using folder = await makeTempFolder();
  const { watcher } = await watchFolder(folder.path, 10);
  await using _ = watcher;
  watcher.take();
  for (let index = 0; index < 30; index += 1) await writeFile(join(folder.path, `f${index}`), '1');
  await eventually('the set overflows', () => watcher.take()?.paths === 'everything' || null);
});

/**
 * The limit is per user namespace, so a process in a namespace of its own meets the real one without disturbing the
 * machine. Where namespaces are not allowed there is no way to meet it.
 */
const run = promisify(execFile);
const canLimit = await run('unshare', ['-r', 'sh', '-c', 'echo 3 > /proc/sys/user/max_inotify_watches']).then(
  () => true,
  () => false,
);

test.runIf(canLimit).each([
  ['watches', 'max_inotify_watches', 3, 'fs.inotify.max_user_watches'],
  ['inotify instances', 'max_inotify_instances', 0, 'fs.inotify.max_user_instances'],
])('when the system has no %s left, everything is called dirty periodically', async (_name, limit, left, hint) => {
  await using folder = await makeTempFolder();
  for (let index = 0; index < 10; index += 1) await mkdir(join(folder.path, `d${index}`));
  const script = join(import.meta.dirname, 'watch-without-inotify.ts');
  const command = `echo ${left} > /proc/sys/user/${limit}; exec "${process.execPath}" "${script}" "${folder.path}"`;
  const { stdout, stderr } = await run('unshare', ['-r', 'sh', '-c', command], { timeout: 20_000 });
  expect(JSON.parse(stdout)).toEqual({ mode: 'rescanning', periodicMarks: 3 });
  expect(stderr).toContain(hint);
  expect(stderr.match(/watch-failed/g)).toHaveLength(1);
});
