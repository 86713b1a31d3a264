import { decodeManifest, encodeManifest, MAX_MANIFEST_BYTES, type Manifest } from '@dumont/shared/format/manifest.ts';
import { manifestKey } from '@dumont/shared/format/layout.ts';
import type { SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import { DumontError, isDumontError } from '@dumont/shared/util/errors.ts';
import { openManifest, sealManifest } from '../secrets/manifest-seal.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import { decodeFrames, encodeFrames, hashHex } from './chunk-codec.ts';
import type { StoreSecrets } from './seal.ts';

export interface ManifestOptions extends CallOptions {
  /** Keys of an encrypted store. */
  readonly secrets?: StoreSecrets | null | undefined;
}

/**
 * Stores a manifest, as LZ4 frames of JSON, under its own new key. Every pack it names must be stored already: that order
 * is what makes a manifest that can be read a snapshot that can be restored.
 */
export async function writeManifest(
  store: ObjectStore,
  manifest: Manifest,
  options: ManifestOptions = {},
): Promise<{ readonly ref: SnapshotRef; readonly storedBytes: number }> {
  const key = manifestKey(manifest);
  const bytes = sealManifest(encodeFrames(encodeManifest(manifest)), key, options.secrets ?? null);
  // `exists` can only be an earlier attempt of this very call: the key holds the snapshot's fresh random id.
  await store.put(key, bytes, { ifAbsent: true, signal: options.signal });
  const ref = { snapshotId: manifest.snapshotId, manifestKey: key, manifestHash: hashHex(bytes) };
  return { ref, storedBytes: bytes.length };
}

/**
 * The manifest a reference speaks of, checked: its bytes have the promised hash, and it is safe to act on.
 * @throws {DumontError} NOT_FOUND; CORRUPT for other bytes, a malformed or a hostile manifest; UNAUTHORIZED for an encrypted
 * one without its secrets; UNSUPPORTED
 */
export async function readManifest(
  store: ObjectStore,
  ref: SnapshotRef,
  options: ManifestOptions = {},
): Promise<{ readonly manifest: Manifest; readonly storedBytes: number }> {
  const bytes = await store.get(ref.manifestKey, { signal: options.signal });
  if (hashHex(bytes) !== ref.manifestHash) {
    throw new DumontError('CORRUPT', `manifest ${ref.manifestKey} does not have the hash it is known by`);
  }
  const opened = openManifest(bytes, ref.manifestKey, options.secrets ?? null);
  const manifest = await unpackManifest(opened, ref.manifestKey);
  if (manifest.snapshotId !== ref.snapshotId) {
    throw new DumontError('CORRUPT', `manifest ${ref.manifestKey} is of snapshot ${manifest.snapshotId}`);
  }
  return { manifest, storedBytes: bytes.length };
}

/** A stored manifest's bytes to the manifest. @throws {DumontError} CORRUPT, UNSUPPORTED */
async function unpackManifest(bytes: Uint8Array, key: string): Promise<Manifest> {
  try {
    return decodeManifest(decodeFrames(bytes, MAX_MANIFEST_BYTES));
  } catch (error) {
    if (!isDumontError(error)) throw error;
    const hint = error.hint === undefined ? {} : { hint: error.hint };
    throw new DumontError(error.code, `${key}: ${error.message}`, { cause: error, ...hint });
  }
}
