import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { created, openEngine } from '../../../world/engine.ts';

test('a snapshot of some files alone leaves the rest as its parent has it, and the next one misses nothing', async () => {
  await using engine = await openEngine();
  const { root, target, snapshotter } = engine;
  const write = (path: string, content: string) => writeFile(join(root, path), content);
  await mkdir(join(root, 'kept'));
  for (const path of ['urgent', 'later', 'gone', 'kept/file']) await write(path, 'one');
  const parent = created(await snapshotter.create({ epoch: 1, parent: null }));
  await mkdir(join(root, 'new/below'), { recursive: true });
  for (const path of ['urgent', 'later', 'new/small', 'new/huge', 'new/below/huge']) await write(path, 'two!');
  await rm(join(root, 'gone'));
  const only = new Set(['urgent', 'gone', 'new/small']);
  const first = created(await snapshotter.create({ epoch: 1, parent, only }));
  await engine.restore(first, { deleteExtra: true });
  const read = (path: string) => readFile(join(target, path), 'utf8').catch(() => null);
  const at = async (...paths: string[]) => Promise.all(paths.map(read));
  expect(await at('urgent', 'later', 'gone', 'kept/file')).toEqual(['two!', 'one', null, 'one']);
  expect((await readdir(join(target, 'new'))).sort()).toEqual(['below', 'small']);

  // Nothing is said to have changed, yet everything is looked at.
  const second = created(await snapshotter.create({ epoch: 1, parent: first, changed: new Set() }));
  await engine.restore(second, { deleteExtra: true });
  expect(await at('later', 'new/huge', 'new/below/huge')).toEqual(['two!', 'two!', 'two!']);
});
