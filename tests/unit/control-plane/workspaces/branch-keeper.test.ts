import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { objectRemover } from '@dumont/control-plane/storage/remove-object.ts';
import { commitBranch, findBranch, listBranches } from '@dumont/control-plane/store/branches.ts';
import type { Database } from '@dumont/control-plane/store/database.ts';
import { openHarvest } from '@dumont/control-plane/store/harvests.ts';
import { BranchKeeper } from '@dumont/control-plane/workspaces/branch-keeper.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import type { DirectGrant } from '@dumont/shared/protocol/storage-grant.ts';
import { workspacePrefix } from '@dumont/shared/storage/workspace-prefix.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { onEachDatabase } from '../../../world/databases.ts';
import { ManualClock } from '../../../world/manual-clock.ts';
import { someInstance, someSnapshot, someWorkspace } from '../../../world/rows.ts';
import { openSimulatedS3 } from '../../../world/simulated-s3.ts';
import { makeTempFolder } from '../../../world/temp-folder.ts';

const log = createLogger('test', 'silent');
const { signal } = new AbortController();

async function someBranch(db: Database, nowMs: number, keepMs: number) {
  const workspaceId = await someWorkspace(db);
  const instanceId = await someInstance(db, workspaceId);
  await db.query('update instances set epoch = 0 where id = $1', [instanceId]);
  const [operationId, commandId] = [newId('operation'), newId('command')];
  await openHarvest(db, { instanceId, operationId, commandId, atMs: nowMs });
  const summary = { addedCount: 1, changedCount: 0, deletedCount: 0, changedBytes: 1, changes: [] };
  const branch = { workspaceId, instanceId, epoch: 0, record: someSnapshot(null), summary, atMs: nowMs, keepMs };
  const outcome = await commitBranch(db, branch);
  if (outcome.kind !== 'committed') throw new Error(outcome.reason);
  return outcome.branch;
}

onEachDatabase((database) => {
  test('a branch goes at its age and another when it is deleted, each with its manifest and nothing else', async () => {
    await using opened = await database.open();
    await using folder = await makeTempFolder();
    const { db } = opened;
    const clock = new ManualClock();
    const storage: DirectGrant = { kind: 'file', path: folder.path, prefix: '' };
    const parts = { db, clock, log, removeObject: objectRemover(storage, clock), onChange: () => {} };
    await using keeper = new BranchKeeper(parts);
    const branches = [
      await someBranch(db, clock.nowMs(), 60_000),
      await someBranch(db, clock.nowMs(), 600_000),
      await someBranch(db, clock.nowMs(), 600_000),
    ] as const;
    const fileOf = ({ workspaceId, record }: (typeof branches)[number]) =>
      join(folder.path, workspacePrefix(workspaceId), record.manifestKey);
    for (const branch of branches) {
      await mkdir(dirname(fileOf(branch)), { recursive: true });
      await writeFile(fileOf(branch), 'manifest');
      await writeFile(`${fileOf(branch)}-of-another`, 'manifest');
    }
    await keeper.round();
    expect(await listBranches(db, { includeDeleted: false, limit: 10 })).toHaveLength(3);
    await clock.advance(60_000);
    await keeper.delete(branches[1]);
    await keeper.delete(branches[1]);
    await keeper.round();
    const left = await Promise.all(branches.map(async (branch) => (await readdir(dirname(fileOf(branch)))).length));
    expect(left).toEqual([1, 1, 2]);
    const open = await listBranches(db, { includeDeleted: false, limit: 10 });
    expect(open.map(({ id }) => id)).toEqual([branches[2].id]);
    expect(await findBranch(db, branches[0].id)).toMatchObject({ state: 'deleted', removedAtMs: clock.nowMs() });
    const events = await db.query(
      "select data ->> 'reason' as reason from events where type = 'branch.deleted' order by id",
    );
    expect(events).toEqual([{ reason: 'a user deleted it' }, { reason: 'it reached its age' }]);
  });

  test('a manifest that cannot be removed now is removed later', async () => {
    await using opened = await database.open();
    const { db } = opened;
    let isDown = true;
    const removed: string[] = [];
    const removeObject = (_: unknown, key: string) => {
      if (isDown) return Promise.reject(new Error('the store is away'));
      removed.push(key);
      return Promise.resolve();
    };
    await using keeper = new BranchKeeper({ db, clock: systemClock, log, removeObject, onChange: () => {} });
    const branch = await someBranch(db, systemClock.nowMs(), 600_000);
    await keeper.delete(branch);
    await expect(keeper.round()).rejects.toThrow('the store is away');
    expect(await findBranch(db, branch.id)).toMatchObject({ state: 'deleted', removedAtMs: null });
    isDown = false;
    await keeper.round();
    expect(removed).toEqual([branch.record.manifestKey]);
    expect((await findBranch(db, branch.id))?.removedAtMs).not.toBeNull();
    await keeper.round();
    expect(removed).toHaveLength(1);
  });
});

test('an object in a bucket is removed with the operator’s keys, and nothing happens where it is gone', async () => {
  await using s3 = await openSimulatedS3();
  const remove = objectRemover(s3.grant, systemClock);
  const workspaceId = newId('workspace');
  const prefix = workspacePrefix(workspaceId);
  for (const key of ['manifests/a', 'manifests/ab']) await s3.store.put(prefix + key, Buffer.from('m'), {});
  await remove(workspaceId, 'manifests/a', { signal });
  await remove(workspaceId, 'manifests/a', { signal });
  expect(await s3.store.stat(`${prefix}manifests/a`, {})).toBeNull();
  expect(await s3.store.stat(`${prefix}manifests/ab`, {})).not.toBeNull();
  const stranger = objectRemover({ ...s3.grant, secretAccessKey: 'wrong' }, systemClock);
  await expect(stranger(workspaceId, 'manifests/ab', { signal })).rejects.toMatchObject({ code: 'UNAVAILABLE' });
});
