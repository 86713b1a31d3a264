import type { SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import { DumontError, isDumontError } from '@dumont/shared/util/errors.ts';
import { hashHex } from '../snapshot/chunk-codec.ts';
import { readSnapshot } from '../snapshot/manifest-store.ts';
import type { StoreSecrets } from '../snapshot/seal.ts';
import { forEachBounded } from '../storage/for-each-bounded.ts';
import { throwIfAborted, type CallOptions, type ObjectStore } from '../storage/object-store.ts';
import { isVoid, readRevocations } from './revocations.ts';
import { listManifests, type ListedManifest } from './store-listing.ts';

/** Manifests read at once: their size is anything up to hundreds of megabytes. */
const MAX_READS = 4;

/** The keys a manifest is encrypted under; null in a store in clear. */
export type SecretsOf = (ref: SnapshotRef, options: CallOptions) => Promise<StoreSecrets | null>;

/** Every pack a manifest needs, segments included; throws NOT_FOUND or CORRUPT when it cannot tell. */
export type PackReader = (found: ListedManifest, options: CallOptions) => Promise<readonly string[]>;

/** The packs of a manifest as readers find them: those its root names, where its segments lie, and those they name. */
export function packReader(store: ObjectStore, secretsOf: SecretsOf): PackReader {
  return async (found, options) => {
    const bytes = await store.get(found.manifestKey, options);
    const { snapshotId, manifestKey } = found;
    const ref = { snapshotId, manifestKey, manifestHash: hashHex(bytes) };
    const secrets = await secretsOf(ref, options);
    const { root, segments } = await readSnapshot(store, ref, { ...options, secrets });
    return [...new Set([...root.packs, ...segments.flatMap(({ packs }) => packs)])];
  };
}

/**
 * Which packs the manifests of a store name. What was read once is not read again, because manifests never change; kept
 * are numbers of rows, not ids.
 */
export class References {
  readonly #store: ObjectStore;
  readonly #readPacks: PackReader;
  readonly #rows = new Map<string, number>();
  readonly #byManifest = new Map<string, Uint32Array>();

  constructor(store: ObjectStore, readPacks: PackReader) {
    this.#store = store;
    this.#readPacks = readPacks;
  }

  /**
   * What the manifests stored when it was called name; void ones and those in `except` do not count.
   * @throws {DumontError} CORRUPT when one cannot be read: then nothing may be deleted
   */
  async read(
    options: CallOptions & {
      readonly except?: ReadonlySet<string> | undefined;
      readonly onRead?: ((done: number, total: number) => void) | undefined;
    } = {},
  ): Promise<{ readonly manifests: readonly ListedManifest[]; readonly has: (packId: string) => boolean }> {
    const { signal, except, onRead } = options;
    const listed = await listManifests(this.#store, { signal });
    // After the manifests: one whose packs may be gone was void before it was stored, or before they went.
    const revocations = await readRevocations(this.#store, { signal });
    const manifests = listed.filter(
      ({ snapshotId, manifestKey }) => !isVoid(revocations, snapshotId) && except?.has(manifestKey) !== true,
    );
    const used = new Set<number>();
    let done = 0;
    await forEachBounded(manifests, MAX_READS, async (found) => {
      throwIfAborted(signal);
      for (const row of await this.#rowsOf(found, { signal })) used.add(row);
      done += 1;
      onRead?.(done, manifests.length);
    });
    const has = (packId: string) => used.has(this.#rows.get(packId) ?? -1);
    return { manifests, has };
  }

  async #rowsOf(found: ListedManifest, options: CallOptions): Promise<Uint32Array> {
    const known = this.#byManifest.get(found.manifestKey);
    if (known !== undefined) return known;
    let packIds: readonly string[];
    try {
      packIds = await this.#readPacks(found, options);
    } catch (error) {
      if (!isDumontError(error, 'NOT_FOUND') && !isDumontError(error, 'CORRUPT')) throw error;
      if (await this.#isGone(found, options)) return new Uint32Array();
      throw new DumontError('CORRUPT', `what ${found.manifestKey} needs is unknown: ${error.message}`, {
        hint: 'Nothing is deleted while a snapshot cannot be read. See: dumont-agent fsck',
        cause: error,
      });
    }
    const rows = Uint32Array.from(packIds, (packId) => this.#rowOf(packId));
    this.#byManifest.set(found.manifestKey, rows);
    return rows;
  }

  /** Another prune may forget a manifest, or make it void, while it is being read. */
  async #isGone({ manifestKey, snapshotId }: ListedManifest, options: CallOptions): Promise<boolean> {
    if ((await this.#store.stat(manifestKey, options)) === null) return true;
    return isVoid(await readRevocations(this.#store, { ...options, snapshotId }), snapshotId);
  }

  #rowOf(packId: string): number {
    const row = this.#rows.get(packId) ?? this.#rows.size;
    this.#rows.set(packId, row);
    return row;
  }
}
