import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { restoreSnapshot } from '@dumont/agent/restore/restorer.ts';
import { Snapshotter } from '@dumont/agent/snapshot/snapshotter.ts';
import { openStore } from '@dumont/agent/storage/open-store.ts';
import type { Database } from '@dumont/control-plane/store/database.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { expect, test } from 'vitest';
import { keysOf } from '../../../conformance/object-store-contract.ts';
import { created } from '../../../world/engine.ts';
import { eventually } from '../../../world/eventually.ts';
import { startGrantingS3 } from '../../../world/granting-s3.ts';
import { random32 } from '../../../world/random32.ts';
import { steppingClock } from '../../../world/stepping-clock.ts';
import { makeTempFolder } from '../../../world/temp-folder.ts';

/** Shorter than the quarter of an hour by which a service lets clocks differ. */
const TTL_MS = 60_000;
/** Neither R2 nor STS needs one. */
const NO_DATABASE = null as unknown as Database;

test('keys that run out in the middle of a snapshot are waited for, and nothing is lost', async () => {
  const clock = steppingClock();
  await using service = await startGrantingS3(['r2', 'r2'], { db: NO_DATABASE, clock, ttlMs: TTL_MS });
  const holder = service.holder();
  await using store = await service.open(await service.issue(holder), holder);
  await using folder = await makeTempFolder();
  await using target = await makeTempFolder();
  const noise = random32(7);
  const bytes = Buffer.from(Uint32Array.from({ length: 2_000_000 }, () => noise()).buffer);
  await writeFile(join(folder.path, 'model.bin'), bytes);
  const { workspaceId, instanceId } = holder;
  const parts = { store, root: folder.path, workspaceId, writerId: instanceId, clock, toolVersion: 'test' };
  const taking = new Snapshotter(parts).create({ epoch: 1, parent: null });
  await eventually('something was uploaded', () => service.simulator.requests.some((line) => line.startsWith('PUT ')));
  clock.step(TTL_MS + 1_000);
  const seen = service.simulator.requests.length;
  await eventually('a request was refused', () => service.simulator.requests.length > seen);
  store.renew(await service.issue(holder));
  const snapshot = created(await taking);
  await restoreSnapshot({ store, snapshot, target: target.path, clock, deleteExtra: false });
  expect(Buffer.compare(await readFile(join(target.path, 'model.bin')), bytes)).toBe(0);
});

test.each(['ExpiredToken', 'InvalidAccessKeyId'] as const)(
  'every kind of call that is refused with %s after the end of its keys is answered once they are renewed',
  async (expiredCode) => {
    const clock = steppingClock();
    await using service = await startGrantingS3(['sts', 's3'], { db: NO_DATABASE, clock });
    const { account, simulator } = service;
    const issue = () => {
      const expiresAtMs = clock.nowMs() + TTL_MS;
      const keys = simulator.keys.issue({ allows: () => true, expiresAtMs, expiredCode }, { withToken: true });
      return { ...account, ...keys, expiresAtMs };
    };
    await using store = await service.open(issue(), service.holder());
    await store.put('packs/one', Buffer.from('1'));
    clock.step(TTL_MS + 1_000);
    const seen = simulator.requests.length;
    const put = store.put('packs/two', Buffer.from('2'));
    const calls = Promise.all([store.get('packs/one'), store.stat('packs/one'), keysOf(store, 'packs/one'), put]);
    await eventually('all were refused', () => simulator.requests.length >= seen + 4);
    store.renew(issue());
    const [bytes, stat, listed, outcome] = await calls;
    expect(Buffer.from(bytes).toString()).toBe('1');
    expect([stat?.sizeBytes, listed, outcome]).toEqual([1, ['packs/one'], 'stored']);
  },
);

test('a grant of another place is not taken for a renewal', async () => {
  await using service = await startGrantingS3(['sts', 's3'], { db: NO_DATABASE });
  const [holder, other] = [service.holder(), service.holder()];
  await using store = await service.open(await service.issue(holder), holder);
  const foreign = await service.issue(other);
  expect(() => store.renew(foreign)).toThrow(expect.objectContaining({ code: 'CONFLICT' }) as Error);
});

test('without a control plane a signed grant cannot be opened', async () => {
  const clock = steppingClock();
  const grant = {
    kind: 'presigned',
    profile: 'minio',
    signPath: '/sign',
    prefix: `workspaces/${newId('workspace')}/`,
  } as const;
  await expect(openStore(grant, { clock, random: seededRandom(1) })).rejects.toMatchObject({ code: 'UNSUPPORTED' });
});
