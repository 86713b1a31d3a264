import { randomBytes } from 'node:crypto';
import { KEYS_PREFIX, parseWrappedKeyKey, wrappedKeyKey } from '@dumont/shared/format/layout.ts';
import { DumontError, isDumontError } from '@dumont/shared/util/errors.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import {
  parseKeyObject,
  unwrapMaster,
  wrapMaster,
  type KeyObject,
  type NewKey,
  type OpenMaster,
} from './key-object.ts';

/** Passwords of one store. Every wrong guess costs half a second for each, so few are enough and many are an attack. */
const MAX_KEYS = 32;
/** A key object has about 400 bytes. */
const MAX_KEY_OBJECT_BYTES = 4_096;
const KEY_ID_BYTES = 16;

/** A key object as it lies in a store; `damage` says why it cannot be read. */
export type StoredKey = { readonly keyId: string } & (
  | { readonly object: KeyObject; readonly bytes: Uint8Array; readonly damage: null }
  | { readonly object: null; readonly damage: DumontError }
);

/**
 * Every key object of a store, ascending by id; damaged ones are among them, since another may still open the store.
 * @throws {DumontError} LIMIT above 32 keys; whatever the store throws
 */
export async function listKeys(store: ObjectStore, options: CallOptions = {}): Promise<readonly StoredKey[]> {
  const keys: StoredKey[] = [];
  for await (const { key, sizeBytes } of store.list(KEYS_PREFIX, options)) {
    const keyId = parseWrappedKeyKey(key);
    if (keyId === null) continue;
    if (keys.length === MAX_KEYS) throw new DumontError('LIMIT', `the store has more than ${MAX_KEYS} keys`);
    const found = await readKey(store, { key, keyId, sizeBytes }, options);
    if (found !== null) keys.push(found);
  }
  return keys;
}

/** Stores a master under a password, in a new key object, and reads it back: what is deleted next may rely on it. */
export async function storeKey(
  store: ObjectStore,
  opened: OpenMaster,
  words: { readonly password: string; readonly key: NewKey },
  options: CallOptions = {},
): Promise<string> {
  const keyId = randomBytes(KEY_ID_BYTES).toString('hex');
  const key = wrappedKeyKey(keyId);
  await store.put(key, await wrapMaster(keyId, opened, words), options);
  const back = parseKeyObject(key, await store.get(key, options));
  if ((await unwrapMaster(keyId, back, words.password)) !== null) return keyId;
  throw new DumontError('CORRUPT', `${key} was just stored and does not open with its password`);
}

/** Null when it was deleted since it was listed. */
async function readKey(
  store: ObjectStore,
  { key, keyId, sizeBytes }: { readonly key: string; readonly keyId: string; readonly sizeBytes: number },
  options: CallOptions,
): Promise<StoredKey | null> {
  try {
    if (sizeBytes > MAX_KEY_OBJECT_BYTES) throw new DumontError('CORRUPT', `${key} has ${sizeBytes} bytes`);
    const bytes = await store.get(key, options);
    return { keyId, object: parseKeyObject(key, bytes), bytes, damage: null };
  } catch (error) {
    if (isDumontError(error, 'NOT_FOUND')) return null;
    if (isDumontError(error, 'CORRUPT') || isDumontError(error, 'UNSUPPORTED')) {
      return { keyId, object: null, damage: error };
    }
    throw error;
  }
}
