import { DumontError } from '@dumont/shared/util/errors.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import type { StoreSecrets } from '../snapshot/seal.ts';
import { throwIfAborted, type CallOptions, type ObjectStore } from '../storage/object-store.ts';
import { unwrapMaster, type NewKey, type OpenMaster } from './key-object.ts';
import { listKeys, storeKey, type StoredKey } from './key-store.ts';
import { MANIFEST_MASTER_BYTES, masterIdOf } from './manifest-seal.ts';
import { deriveSecrets, newMasterKey } from './master-key.ts';

/**
 * The master keys of a store that a password opens, at least one. There is one, but for two first writers that did not see
 * each other: then each has made its own, and every snapshot goes on with the one its parent is of.
 */
export interface KeyRing {
  /** Ascending by master id; the first is for snapshots without a parent. */
  readonly masters: readonly [OpenMaster, ...OpenMaster[]];
}

export interface OpenRingOptions extends CallOptions {
  /** Makes the store an encrypted one when it holds nothing yet; null never writes. */
  readonly create: NewKey | null;
}

/**
 * Opens an encrypted store with a password, before anything of it is read, written or deleted.
 * @returns null for a store that is not encrypted, when there is no password either, or when it is empty and not to be
 * created
 * @throws {DumontError} UNAUTHORIZED without a password or with a wrong one; CORRUPT or UNSUPPORTED when keys that cannot
 * be read may be the reason; CONFLICT for a password where snapshots lie that are not encrypted
 */
export async function openKeyRing(
  store: ObjectStore,
  password: string | null,
  options: OpenRingOptions,
): Promise<KeyRing | null> {
  const keys = await listKeys(store, options);
  if (password === null) {
    if (keys.length === 0) return null;
    throw new DumontError('UNAUTHORIZED', 'the store is encrypted and no password was given', { hint: PASSWORD_HINT });
  }
  if (keys.length > 0) return unlock(keys, password, options);
  await refuseUnencrypted(store, options);
  if (options.create === null) return null;
  const master = newMasterKey();
  await storeKey(store, { master, secrets: deriveSecrets(master) }, { password, key: options.create }, options);
  // Another first writer may have stored its key meanwhile; from here on both see both.
  return unlock(await listKeys(store, options), password, options);
}

/**
 * The secrets a snapshot is encrypted with, or for the next snapshot after it; for the first when `snapshot` is null.
 * @throws {DumontError} UNAUTHORIZED when it is under a master that the password does not open; NOT_FOUND
 */
export async function secretsFor(
  ring: KeyRing | null,
  store: ObjectStore,
  snapshot: SnapshotRef | null,
  options: CallOptions = {},
): Promise<StoreSecrets | null> {
  if (ring === null) return null;
  const [{ secrets: first }, ...others] = ring.masters;
  // With one master there is nothing to choose; reading the manifest tells when it is of another.
  if (snapshot === null || others.length === 0) return first;
  const range = { offset: 0, length: MANIFEST_MASTER_BYTES };
  const masterId = masterIdOf(await store.get(snapshot.manifestKey, { range, signal: options.signal }));
  const found = ring.masters.find(({ secrets }) => secrets.masterId === masterId);
  // Reading it with any other says exactly what is wrong with it.
  return found?.secrets ?? first;
}

/** {@link openKeyRing} and {@link secretsFor} in one. */
export async function openSecrets(
  store: ObjectStore,
  password: string | null,
  options: OpenRingOptions & { readonly snapshot?: SnapshotRef | null },
): Promise<StoreSecrets | null> {
  return secretsFor(await openKeyRing(store, password, options), store, options.snapshot ?? null, options);
}

/** The keys that a password opens, among them several of one master. @throws {DumontError} CORRUPT when one is forged */
export async function openEveryKey(
  keys: readonly StoredKey[],
  password: string,
  options: CallOptions = {},
): Promise<readonly (OpenMaster & { readonly keyId: string })[]> {
  const opened: (OpenMaster & { readonly keyId: string })[] = [];
  for (const { keyId, object } of keys) {
    throwIfAborted(options.signal);
    const master = object === null ? null : await unwrapMaster(keyId, object, password);
    if (master !== null) opened.push({ ...master, keyId });
  }
  return opened;
}

/** Why a password opens nothing. */
export function wrongPassword(keys: readonly StoredKey[]): DumontError {
  const damage = keys.map((key) => key.damage).find((error) => error !== null);
  if (damage === undefined) {
    return new DumontError('UNAUTHORIZED', 'the password does not open this store', { hint: PASSWORD_HINT });
  }
  return new DumontError(damage.code, `the password opens no key that can be read, and ${damage.message}`, {
    cause: damage,
    hint: damage.hint ?? 'Restore the key object from a copy, or use the password of another key.',
  });
}

const PASSWORD_HINT = 'Set SNAPSHOT_PASSWORD to its password, or name a file with --password-file.';

async function unlock(keys: readonly StoredKey[], password: string, options: CallOptions): Promise<KeyRing> {
  const opened = new Map<string, OpenMaster>();
  for (const { keyId, object } of keys) {
    throwIfAborted(options.signal);
    if (object === null || opened.has(object.masterId)) continue;
    const master = await unwrapMaster(keyId, object, password);
    if (master !== null) opened.set(object.masterId, master);
  }
  const [first, ...others] = [...opened.keys()]
    .toSorted()
    .map((id) => must(opened.get(id), 'the id is one of its keys'));
  if (first === undefined) throw wrongPassword(keys);
  return { masters: [first, ...others] };
}

/** A password promises encryption: it must neither add to what is in clear nor believe what somebody put there. */
async function refuseUnencrypted(store: ObjectStore, options: CallOptions): Promise<void> {
  for (const prefix of ['manifests/', 'packs/']) {
    for await (const { key } of store.list(prefix, { signal: options.signal })) {
      throw new DumontError('CONFLICT', `a password was given, but the store holds ${key} and no key: not encrypted`, {
        hint: 'Use another prefix or folder for encrypted snapshots; unset SNAPSHOT_PASSWORD to use this one as it is.',
      });
    }
  }
}
