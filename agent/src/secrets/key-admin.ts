import { wrappedKeyKey } from '@dumont/shared/format/layout.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import type { NewKey, OpenMaster } from './key-object.ts';
import { listKeys, storeKey, type StoredKey } from './key-store.ts';
import { openEveryKey, wrongPassword } from './key-ring.ts';

/** A password to be added and how it is stored. */
export interface NewPassword {
  readonly password: string;
  readonly key: NewKey;
}

/** Ids of key objects that a change made and removed. */
export interface KeyChange {
  readonly added: readonly string[];
  readonly removed: readonly string[];
}

/**
 * Lets another password open everything that `password` opens. Nothing is written when it does already.
 * @throws {DumontError} UNAUTHORIZED for a wrong password, NOT_FOUND for a store that is not encrypted
 */
export async function addPassword(
  store: ObjectStore,
  password: string,
  added: NewPassword,
  options: CallOptions = {},
): Promise<KeyChange> {
  const { keys, opened } = await openAll(store, password, options);
  return { added: await addMissing(store, { keys, opened, ...added }, options), removed: [] };
}

/**
 * Replaces a password: first the new one opens everything, then the key objects of the old one go. Stopped anywhere, even
 * by a kill, the store opens with at least one of the two, and running it again completes it. The master key stays: who
 * kept a key object and its password can still read.
 * @throws {DumontError} as {@link addPassword}; USAGE when both are the same
 */
export async function rotatePassword(
  store: ObjectStore,
  password: string,
  replacement: NewPassword,
  options: CallOptions = {},
): Promise<KeyChange> {
  if (replacement.password.normalize('NFC') === password.normalize('NFC')) {
    throw new DumontError('USAGE', 'the new password is the old one', { field: 'SNAPSHOT_NEW_PASSWORD' });
  }
  const keys = await requireKeys(store, options);
  const opened = await openEveryKey(keys, password, options);
  if (opened.length === 0) {
    // A rotation that was stopped after its last deletion and is run again.
    if ((await openEveryKey(keys, replacement.password, options)).length > 0) return { added: [], removed: [] };
    throw wrongPassword(keys);
  }
  const added = await addMissing(store, { keys, opened, ...replacement }, options);
  const removed = opened.map(({ keyId }) => keyId);
  for (const keyId of removed) await store.delete(wrappedKeyKey(keyId), options);
  await keepOpenable(store, keys, { opened, password: replacement.password }, options);
  return { added, removed };
}

/**
 * Removes a key object. `password` must open everything without it, so that the last key never goes and nobody shuts
 * himself out; a key of one's own is replaced by {@link rotatePassword}.
 * @throws {DumontError} as {@link addPassword}; NOT_FOUND for an unknown id, CONFLICT when `password` needs this key
 */
export async function removeKey(
  store: ObjectStore,
  password: string,
  keyId: string,
  options: CallOptions = {},
): Promise<KeyChange> {
  const { keys, opened } = await openAll(store, password, options);
  const unwanted = keys.find((key) => key.keyId === keyId);
  if (unwanted === undefined) throw new DumontError('NOT_FOUND', `the store holds no key ${keyId}`, { field: 'id' });
  const staying = opened.filter((key) => key.keyId !== keyId);
  const isNeeded = staying.length === 0 || (unwanted.object !== null && !holds(staying, unwanted.object.masterId));
  if (isNeeded) {
    throw new DumontError('CONFLICT', `without the key ${keyId} this password would not open the store`, {
      hint: 'Give the password of another key, or replace this one with: dumont-agent key rotate',
    });
  }
  await store.delete(wrappedKeyKey(keyId), options);
  await keepOpenable(store, keys, { opened: staying, password }, options);
  return { added: [], removed: [keyId] };
}

async function openAll(store: ObjectStore, password: string, options: CallOptions) {
  const keys = await requireKeys(store, options);
  const opened = await openEveryKey(keys, password, options);
  if (opened.length === 0) throw wrongPassword(keys);
  return { keys, opened };
}

async function requireKeys(store: ObjectStore, options: CallOptions): Promise<readonly StoredKey[]> {
  const keys = await listKeys(store, options);
  if (keys.length > 0) return keys;
  throw new DumontError('NOT_FOUND', 'the store holds no key: it is not encrypted', {
    hint: 'The first snapshot with SNAPSHOT_PASSWORD into an empty store makes an encrypted one.',
  });
}

/** Stores a key under `password` for every master that it does not open yet. @returns their ids */
async function addMissing(
  store: ObjectStore,
  {
    keys,
    opened,
    password,
    key,
  }: NewPassword & { readonly keys: readonly StoredKey[]; readonly opened: readonly OpenMaster[] },
  options: CallOptions,
): Promise<readonly string[]> {
  const present = await openEveryKey(keys, password, options);
  const added: string[] = [];
  for (const one of new Map(opened.map((each) => [each.secrets.masterId, each])).values()) {
    if (holds(present, one.secrets.masterId)) continue;
    added.push(await storeKey(store, one, { password, key }, options));
  }
  return added;
}

/**
 * Two who delete keys at once may each remove the one that the other relies on. The later of them sees that here and puts
 * back, byte for byte, what it knew.
 */
async function keepOpenable(
  store: ObjectStore,
  before: readonly StoredKey[],
  held: { readonly opened: readonly OpenMaster[]; readonly password: string },
  options: CallOptions,
): Promise<void> {
  const left = await openEveryKey(await listKeys(store, options), held.password, options);
  const lost = held.opened.filter(({ secrets }) => !holds(left, secrets.masterId));
  if (lost.length === 0) return;
  const masters = new Set(lost.map(({ secrets }) => secrets.masterId));
  for (const { keyId, object, ...rest } of before) {
    if (object === null || !masters.has(object.masterId) || !('bytes' in rest)) continue;
    await store.put(wrappedKeyKey(keyId), rest.bytes, { ifAbsent: true, signal: options.signal });
  }
  throw new DumontError('CONFLICT', 'somebody else removed keys of this store at the same time; they were put back', {
    hint: 'Look at them with dumont-agent key list, and try again.',
  });
}

function holds(opened: readonly OpenMaster[], masterId: string): boolean {
  return opened.some(({ secrets }) => secrets.masterId === masterId);
}
