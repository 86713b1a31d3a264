import { join } from 'node:path';
import { expect, test } from 'vitest';
import { wrappedKeyKey } from '@dumont/shared/format/layout.ts';
import type { SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { listKeys } from '@dumont/agent/secrets/key-store.ts';
import { openKeyRing, openSecrets, secretsFor } from '@dumont/agent/secrets/key-ring.ts';
import { sealManifest } from '@dumont/agent/secrets/manifest-seal.ts';
import { FileStore } from '@dumont/agent/storage/file-store.ts';
import type { CallOptions, ObjectInfo, ObjectStore } from '@dumont/agent/storage/object-store.ts';
import { openStore } from '@dumont/agent/storage/open-store.ts';
import { startS3Simulator } from '../../../simulators/s3/s3-simulator.ts';
import { QUICK_KEY } from '../../../world/quick-key.ts';
import { makeTempFolder } from '../../../world/temp-folder.ts';

const create = QUICK_KEY;

async function allKeys(store: ObjectStore): Promise<readonly string[]> {
  const keys: string[] = [];
  for await (const { key } of store.list('')) keys.push(key);
  return keys;
}

async function folderStore() {
  const folder = await makeTempFolder();
  const store = new FileStore(join(folder.path, 'store'));
  return { store, path: join(folder.path, 'store'), [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose]() };
}

/** A service without conditional writes, which the protocol must not need. */
async function s3Store() {
  const credentials = { accessKeyId: 'id', secretAccessKey: 'secret' };
  const simulator = await startS3Simulator({ ...credentials, buckets: ['b'], mode: 'b2' });
  const grant = { kind: 's3', endpoint: simulator.endpoint, region: 'x', bucket: 'b', prefix: 'p/', ...credentials };
  const retrying = { clock: systemClock, random: seededRandom(1) };
  const store = await openStore({ ...grant, kind: 's3', forcePathStyle: true }, retrying);
  return {
    store,
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]();
      await simulator[Symbol.asyncDispose]();
    },
  };
}

test.each([
  ['a folder', folderStore],
  ['S3 without conditional writes', s3Store],
])(
  'the first writer with a password makes %s an encrypted store, which opens with that password only',
  async (_, open) => {
    await using here = await open();
    const { store } = here;
    expect(await openSecrets(store, null, { create })).toBe(null);
    expect(await openSecrets(store, 'right', { create: null })).toBe(null);
    expect(await allKeys(store)).toEqual([]);
    const secrets = await openSecrets(store, 'right', { create });
    expect(secrets?.masterId).toMatch(/^[0-9a-f]{32}$/);
    expect(await openSecrets(store, 'right', { create })).toEqual(secrets);
    expect(await openSecrets(store, 'right', { create: null })).toEqual(secrets);
    const before = await allKeys(store);
    expect(before).toHaveLength(1);
    for (const password of [null, 'wrong', 'Right']) {
      const refused = openSecrets(store, password, { create });
      await expect(refused).rejects.toMatchObject({
        code: 'UNAUTHORIZED',
        hint: expect.stringContaining('SNAPSHOT_PASSWORD') as string,
      });
    }
    expect(await allKeys(store)).toEqual(before);
  },
);

test.each(['manifests/ws_x', 'packs/0123'])(
  'a password for a store with %s in clear is refused, nothing is written',
  async (key) => {
    await using here = await folderStore();
    await here.store.put(key, Buffer.from('in clear'));
    for (const made of [create, null]) {
      await expect(openSecrets(here.store, 'p', { create: made })).rejects.toMatchObject({ code: 'CONFLICT' });
    }
    expect(await allKeys(here.store)).toEqual([key]);
  },
);

test('a damaged key object hides no good one, and is named when none opens', async () => {
  await using here = await folderStore();
  const { store } = here;
  const secrets = await openSecrets(store, 'right', { create });
  const [good] = await listKeys(store);
  await store.put(wrappedKeyKey('0'.repeat(32)), Buffer.from('{"formatVersion":1'));
  await store.put(wrappedKeyKey('f'.repeat(32)), Buffer.alloc(100_000, 32));
  await store.put('keys/README', Buffer.from('none of this format'));
  expect(await openSecrets(store, 'right', { create })).toEqual(secrets);
  await expect(openSecrets(store, 'wrong', { create })).rejects.toMatchObject({
    code: 'CORRUPT',
    message: expect.stringContaining(`keys/${'0'.repeat(32)}`) as string,
  });
  await store.delete(wrappedKeyKey(good?.keyId ?? ''));
  await expect(openSecrets(store, 'right', { create })).rejects.toMatchObject({ code: 'CORRUPT' });
  expect(await listKeys(store)).toHaveLength(2);
});

test('a key object of a newer version says so', async () => {
  await using here = await folderStore();
  await here.store.put(wrappedKeyKey('0'.repeat(32)), Buffer.from('{"formatVersion":2}'));
  await expect(openSecrets(here.store, 'p', { create })).rejects.toMatchObject({ code: 'UNSUPPORTED' });
});

/** Shows no key until as many writers as given have looked: none of them sees another's. */
class LateStore extends FileStore {
  readonly #seen: { left: number; readonly all: PromiseWithResolvers<void> };
  #isFirst = true;

  constructor(path: string, seen: { left: number; readonly all: PromiseWithResolvers<void> }) {
    super(path);
    this.#seen = seen;
  }

  override async *list(prefix: string, options?: CallOptions): AsyncIterable<ObjectInfo> {
    const found: ObjectInfo[] = [];
    for await (const info of super.list(prefix, options)) found.push(info);
    if (this.#isFirst) {
      this.#isFirst = false;
      this.#seen.left -= 1;
      if (this.#seen.left === 0) this.#seen.all.resolve();
      await this.#seen.all.promise;
    }
    yield* found;
  }
}

test('first writers that do not see each other make a master each; all are readable, and later ones agree on one', async () => {
  await using here = await folderStore();
  const seen = { left: 3, all: Promise.withResolvers<void>() };
  const racing = Array.from({ length: 3 }, () => openSecrets(new LateStore(here.path, seen), 'p', { create }));
  const firsts = (await Promise.all(racing)).map((secrets) => secrets?.masterId ?? '');
  const ring = await openKeyRing(here.store, 'p', { create: null });
  const masters = ring?.masters.map(({ secrets }) => secrets) ?? [];
  expect(masters).toHaveLength(3);
  expect(masters.map(({ masterId }) => masterId)).toEqual(masters.map(({ masterId }) => masterId).toSorted());
  for (const masterId of firsts) expect(masters.map((one) => one.masterId)).toContain(masterId);
  expect(await secretsFor(ring, here.store, null)).toEqual(masters[0]);
  for (const [index, secrets] of masters.entries()) {
    const ref = { snapshotId: 'sn', manifestKey: `manifests/${index}`, manifestHash: '' } as unknown as SnapshotRef;
    await here.store.put(ref.manifestKey, sealManifest(Buffer.from('x'), ref.manifestKey, secrets));
    expect(await secretsFor(ring, here.store, ref)).toEqual(secrets);
  }
});
