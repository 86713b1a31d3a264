import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { addPassword, removeKey, rotatePassword } from '@dumont/agent/secrets/key-admin.ts';
import { wrapMaster } from '@dumont/agent/secrets/key-object.ts';
import { openKeyRing, openSecrets } from '@dumont/agent/secrets/key-ring.ts';
import { listKeys } from '@dumont/agent/secrets/key-store.ts';
import { deriveSecrets } from '@dumont/agent/secrets/master-key.ts';
import { FileStore } from '@dumont/agent/storage/file-store.ts';
import type { CallOptions } from '@dumont/agent/storage/object-store.ts';
import { wrappedKeyKey } from '@dumont/shared/format/layout.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { QUICK_KEY } from '../../../world/quick-key.ts';
import { makeTempFolder } from '../../../world/temp-folder.ts';

const key = QUICK_KEY;

async function encryptedStore(password: string) {
  const folder = await makeTempFolder();
  const path = join(folder.path, 'store');
  const store = new FileStore(path);
  const secrets = must(await openSecrets(store, password, { create: key }), 'it has just been made');
  return { store, path, secrets, [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose]() };
}

async function opens(store: FileStore, password: string): Promise<boolean> {
  return openSecrets(store, password, { create: null }).then(
    (secrets) => secrets !== null,
    () => false,
  );
}

async function keyIds(store: FileStore): Promise<readonly string[]> {
  return (await listKeys(store)).map(({ keyId }) => keyId);
}

test('several passwords open the same store, until their keys are removed', async () => {
  await using here = await encryptedStore('a');
  const { store, secrets } = here;
  const [first = ''] = await keyIds(store);
  const { added } = await addPassword(store, 'a', { password: 'b', key });
  expect(added).toHaveLength(1);
  expect(await openSecrets(store, 'b', { create: null })).toEqual(secrets);
  expect(await addPassword(store, 'b', { password: 'a', key })).toEqual({ added: [], removed: [] });
  expect(await removeKey(store, 'b', first)).toEqual({ added: [], removed: [first] });
  expect(await opens(store, 'a')).toBe(false);
  expect(await openSecrets(store, 'b', { create: null })).toEqual(secrets);
});

test('no change is made with a wrong password, and none that would leave the store shut', async () => {
  await using here = await encryptedStore('a');
  const { store } = here;
  const [first = ''] = await keyIds(store);
  const unauthorized = { code: 'UNAUTHORIZED' };
  await expect(addPassword(store, 'wrong', { password: 'b', key })).rejects.toMatchObject(unauthorized);
  await expect(rotatePassword(store, 'wrong', { password: 'b', key })).rejects.toMatchObject(unauthorized);
  await expect(removeKey(store, 'wrong', first)).rejects.toMatchObject(unauthorized);
  await expect(removeKey(store, 'a', first)).rejects.toMatchObject({ code: 'CONFLICT' });
  await expect(removeKey(store, 'a', '0'.repeat(32))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await expect(rotatePassword(store, 'a', { password: 'a', key })).rejects.toMatchObject({ code: 'USAGE' });
  expect(await keyIds(store)).toEqual([first]);
  await addPassword(store, 'a', { password: 'b', key });
  // Another key is left, but this password would not open it.
  await expect(removeKey(store, 'a', first)).rejects.toMatchObject({ code: 'CONFLICT' });
  expect(await keyIds(store)).toHaveLength(2);
});

test('a damaged key object can be removed with any password that opens the store', async () => {
  await using here = await encryptedStore('a');
  const damaged = '0'.repeat(32);
  await here.store.put(wrappedKeyKey(damaged), Buffer.from('damage'));
  await removeKey(here.store, 'a', damaged);
  expect(await keyIds(here.store)).toHaveLength(1);
});

test('a store that is not encrypted has no passwords to change', async () => {
  await using folder = await makeTempFolder();
  const store = new FileStore(join(folder.path, 'store'));
  await expect(addPassword(store, 'a', { password: 'b', key })).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

test('a rotation moves every key that the old password opens, and only those', async () => {
  await using here = await encryptedStore('old');
  const { store, secrets } = here;
  await addPassword(store, 'old', { password: 'third', key });
  const second = { master: Buffer.alloc(32, 9), secrets: deriveSecrets(Buffer.alloc(32, 9)) };
  for (const id of ['1'.repeat(32), '2'.repeat(32)]) {
    await store.put(wrappedKeyKey(id), await wrapMaster(id, second, { password: 'old', key }));
  }
  const change = await rotatePassword(store, 'old', { password: 'new', key });
  expect(change.added).toHaveLength(2);
  expect(change.removed).toHaveLength(3);
  expect(await opens(store, 'old')).toBe(false);
  expect(await openSecrets(store, 'third', { create: null })).toEqual(secrets);
  const ring = await openKeyRing(store, 'new', { create: null });
  const masterIds = [secrets.masterId, second.secrets.masterId].toSorted();
  expect(ring?.masters.map((one) => one.secrets.masterId)).toEqual(masterIds);
  expect(await rotatePassword(store, 'old', { password: 'new', key })).toEqual({ added: [], removed: [] });
});

test.each([0, 1, 2])(
  'a rotation killed after %i of its changes leaves a store that opens, and run again completes',
  async (changes) => {
    await using here = await encryptedStore('old');
    const { store, path, secrets } = here;
    const script = join(import.meta.dirname, 'rotating-child.ts');
    const child = spawn(process.execPath, [script, path, String(changes)], { stdio: ['ignore', 'pipe', 'inherit'] });
    const [said] = (await once(child.stdout, 'data')) as [Buffer];
    expect(said.toString()).toBe(changes === 2 ? 'done\n' : 'stalled\n');
    const closed = once(child, 'close');
    child.kill('SIGKILL');
    await closed;
    expect([await opens(store, 'old'), await opens(store, 'new')]).toEqual([changes < 2, changes > 0]);
    await rotatePassword(store, 'old', { password: 'new', key });
    expect([await opens(store, 'old'), await opens(store, 'new')]).toEqual([false, true]);
    expect(await openSecrets(store, 'new', { create: null })).toEqual(secrets);
    expect(await keyIds(store)).toHaveLength(1);
  },
);

/** Waits with its first deletion until the other is about to delete too. */
class MeetingStore extends FileStore {
  readonly #met: { left: number; readonly all: PromiseWithResolvers<void> };

  constructor(path: string, met: { left: number; readonly all: PromiseWithResolvers<void> }) {
    super(path);
    this.#met = met;
  }

  override async delete(key: string, options?: CallOptions): Promise<void> {
    this.#met.left -= 1;
    if (this.#met.left === 0) this.#met.all.resolve();
    await this.#met.all.promise;
    return super.delete(key, options);
  }
}

test('two who remove the keys of each other at the same time do not shut the store', async () => {
  await using here = await encryptedStore('a');
  const { store, path } = here;
  const [keyOfA = ''] = await keyIds(store);
  const [keyOfB = ''] = (await addPassword(store, 'a', { password: 'b', key })).added;
  const met = { left: 2, all: Promise.withResolvers<void>() };
  const outcomes = await Promise.allSettled([
    removeKey(new MeetingStore(path, met), 'a', keyOfB),
    removeKey(new MeetingStore(path, met), 'b', keyOfA),
  ]);
  expect(outcomes.some(({ status }) => status === 'rejected')).toBe(true);
  expect((await opens(store, 'a')) || (await opens(store, 'b'))).toBe(true);
});
