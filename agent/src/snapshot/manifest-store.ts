import { MAX_SEGMENT_BYTES } from '@dumont/shared/format/limits.ts';
import { decodeRoot, encodeRoot, type Manifest, type ManifestRoot } from '@dumont/shared/format/manifest.ts';
import { manifestKey } from '@dumont/shared/format/layout.ts';
import { joinSegments, type Segment } from '@dumont/shared/format/segment.ts';
import type { SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import { DumontError, isDumontError } from '@dumont/shared/util/errors.ts';
import { openManifest, sealManifest } from '../secrets/manifest-seal.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import { decodeFrames, encodeFrames, hashHex } from './chunk-codec.ts';
import type { StoreSecrets } from './seal.ts';
import { readSegments } from './segment-reader.ts';

export interface ManifestOptions extends CallOptions {
  /** Of an encrypted store; null or absent for any other. */
  readonly secrets?: StoreSecrets | null | undefined;
}

/** A snapshot's root with what it refers to. */
export interface StoredSnapshot {
  readonly root: ManifestRoot;
  /** In the order of `root.segments`. */
  readonly segments: readonly Segment[];
  /** Bytes fetched, root and segments. */
  readonly storedBytes: number;
}

/**
 * Stores a root, as LZ4 frames of JSON, under its own new key. Every pack that it or its segments name must be stored
 * already: that order is what makes a manifest that can be read a snapshot that can be restored.
 */
export async function writeManifest(
  store: ObjectStore,
  root: ManifestRoot,
  options: ManifestOptions = {},
): Promise<{ readonly ref: SnapshotRef; readonly storedBytes: number }> {
  const key = manifestKey(root);
  const bytes = sealManifest(encodeFrames(encodeRoot(root)), key, options.secrets ?? null);
  // `exists` can only be an earlier attempt of this very call: the key holds the snapshot's fresh random id.
  await store.put(key, bytes, { ifAbsent: true, signal: options.signal });
  const ref = { snapshotId: root.snapshotId, manifestKey: key, manifestHash: hashHex(bytes) };
  return { ref, storedBytes: bytes.length };
}

/**
 * The manifest a reference speaks of, whole and checked: its bytes have the promised hash, and it is safe to act on.
 * @returns besides it the root, which alone names the packs its own segments lie in
 * @throws {DumontError} NOT_FOUND; CORRUPT for other bytes, a missing segment, a malformed or hostile manifest; UNAUTHORIZED for
 * an encrypted one without its secrets; UNSUPPORTED
 */
export async function readManifest(
  store: ObjectStore,
  ref: SnapshotRef,
  options: ManifestOptions = {},
): Promise<{ readonly manifest: Manifest; readonly root: ManifestRoot; readonly storedBytes: number }> {
  const { root, segments, storedBytes } = await readSnapshot(store, ref, options);
  return { manifest: naming(ref.manifestKey, () => joinSegments(root, segments)), root, storedBytes };
}

/** Root and segments as they are stored, each checked by itself but not together. Errors as of {@link readManifest}. */
export async function readSnapshot(
  store: ObjectStore,
  ref: SnapshotRef,
  options: ManifestOptions = {},
): Promise<StoredSnapshot> {
  const { root, storedBytes: rootBytes } = await readRoot(store, ref, options);
  const { segments, storedBytes } = await readSegments(store, root, options);
  return { root, segments, storedBytes: rootBytes + storedBytes };
}

/** Only the manifest object: identity, sums and where the segments lie. Errors as of {@link readManifest}. */
export async function readRoot(
  store: ObjectStore,
  ref: SnapshotRef,
  options: ManifestOptions = {},
): Promise<{ readonly root: ManifestRoot; readonly storedBytes: number }> {
  const key = ref.manifestKey;
  const bytes = await store.get(key, options);
  if (hashHex(bytes) !== ref.manifestHash) {
    throw new DumontError('CORRUPT', `manifest ${key} does not have the hash it is known by`);
  }
  const opened = openManifest(bytes, key, options.secrets ?? null);
  const root = naming(key, () => decodeRoot(decodeFrames(opened, MAX_SEGMENT_BYTES)));
  if (root.snapshotId !== ref.snapshotId) {
    throw new DumontError('CORRUPT', `manifest ${key} is of snapshot ${root.snapshotId}`);
  }
  return { root, storedBytes: bytes.length };
}

/** Adds the manifest's key to an error's message. */
function naming<T>(key: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!isDumontError(error)) throw error;
    const hint = error.hint === undefined ? {} : { hint: error.hint };
    throw new DumontError(error.code, `${key}: ${error.message}`, { cause: error, ...hint });
  }
}
