import { rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { mirrorWorkspace } from '@dumont/agent/restore/mirror.ts';
import { FileStore } from '@dumont/agent/storage/file-store.ts';
import { parseManifestKey } from '@dumont/shared/format/layout.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { created, openEngine } from '../../../world/engine.ts';
import { eventually } from '../../../world/eventually.ts';
import { differences, makeTree, seeTree } from '../../../world/tree.ts';

const until = (isSo: () => boolean) => eventually('the mirror got there', isSo);

test('a mirror follows each new snapshot, writes only what changed, undoes local changes and outlives an outage', async () => {
  await using engine = await openEngine();
  const big = { kind: 'file', content: Buffer.alloc(3_000_000, 'steady') } as const;
  await makeTree(engine.root, { big, f: { kind: 'file', content: Buffer.from('one') } });
  let record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  const { workspaceId } = must(parseManifestKey(record.manifestKey), 'a manifest was written');
  const stop = new AbortController();
  const applied: { snapshotId: string; bytesWritten: number; keptFileCount: number }[] = [];
  const outages: string[] = [];
  const mirror = mirrorWorkspace({
    store: new FileStore(engine.storePath, { isMount: true }),
    workspaceId,
    target: engine.target,
    deleteExtra: true,
    clock: systemClock,
    random: seededRandom(1),
    secretsFor: () => Promise.resolve(null),
    intervalMs: 5,
    onApplied: (outcome) => applied.push(outcome),
    onOutage: ({ code }) => outages.push(code),
    signal: stop.signal,
  });
  const follow = async (content: string) => {
    await writeFile(join(engine.root, 'f'), content);
    record = created(await engine.snapshotter.create({ epoch: 1, parent: record }));
  };
  await until(() => applied.length === 1);
  const inode = (await stat(join(engine.target, 'big'))).ino;

  await follow('three');
  await until(() => applied.length === 2);
  expect(applied[1]).toMatchObject({ snapshotId: record.snapshotId, bytesWritten: 5, keptFileCount: 1 });
  expect((await stat(join(engine.target, 'big'))).ino).toBe(inode);

  await writeFile(join(engine.target, 'big'), 'local');
  await writeFile(join(engine.target, 'extra'), 'local');
  await follow('four');
  await until(() => applied.length === 3);
  expect(differences(await seeTree(engine.root), await seeTree(engine.target))).toEqual([]);

  await rename(engine.storePath, `${engine.storePath}-away`);
  await until(() => outages.length > 1);
  expect(new Set(outages)).toEqual(new Set(['UNAVAILABLE']));
  await rename(`${engine.storePath}-away`, engine.storePath);
  await rm(join(engine.root, 'big'));
  await follow('five!');
  await until(() => applied.length === 4);
  expect(differences(await seeTree(engine.root), await seeTree(engine.target))).toEqual([]);
  stop.abort();
  expect(await mirror).toBe(4);
});
