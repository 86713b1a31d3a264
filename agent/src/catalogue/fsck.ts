import { packKey } from '@dumont/shared/format/layout.ts';
import type { PackIndexEntry } from '@dumont/shared/format/pack.ts';
import { DumontError, isDumontError } from '@dumont/shared/util/errors.ts';
import { forEachBounded } from '../storage/for-each-bounded.ts';
import { throwIfAborted, type ObjectInfo, type ObjectStore } from '../storage/object-store.ts';
import { IndexPacker, listIndexObjects, readIndexObject } from './index-store.ts';
import { readPackTail } from './pack-tail.ts';
import type { PackReader } from './references.ts';
import { isVoid, readRevocations } from './revocations.ts';
import { listManifests, listPacks } from './store-listing.ts';

/** Requests at once. */
const MAX_FETCHES = 16;
/** Manifests read at once: each may be large. */
const MAX_MANIFESTS = 4;
/** More problems than this are counted, not listed. */
const MAX_LISTED = 100;

export interface FsckOptions {
  readonly store: ObjectStore;
  readonly readPacks: PackReader;
  /** Make the index anew from the packs. */
  readonly repair: boolean;
  readonly onProgress?: ((phase: 'index' | 'packs' | 'manifests', done: number, total: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface FsckOutcome {
  /** Lost data: damaged packs, snapshots that need packs that are gone. A repair cannot bring it back. */
  readonly problems: readonly string[];
  readonly problemCount: number;
  /** What only costs writers work, and `repair` puts right. */
  readonly notes: readonly string[];
  readonly packCount: number;
  readonly packBytes: number;
  readonly chunkCount: number;
  readonly snapshotCount: number;
  readonly indexCount: number;
  /** Packs, and chunks in them, that no index object tells of. */
  readonly unindexedPacks: number;
  readonly unindexedChunks: number;
  /** Packs that index objects tell of and that are gone. */
  readonly stalePacks: number;
  /** Index objects written in place of the old ones; null without `repair`. */
  readonly rebuilt: number | null;
}

/**
 * Checks a store as a whole: every index object, every pack's own index, and that every snapshot's packs are there. Chunks
 * themselves are for `verify`. Safe beside writers and prunes; what comes and goes meanwhile is no problem.
 * @throws {DumontError} what keeps it from looking: UNAVAILABLE, UNAUTHORIZED, ABORTED, LIMIT
 */
export async function checkStore(options: FsckOptions): Promise<FsckOutcome> {
  const check = new StoreCheck(options);
  const objects = await listIndexObjects(options.store, { signal: options.signal });
  await check.readIndex(objects);
  // Before the packs: whatever a manifest listed now needs is already stored.
  const manifests = await check.listSnapshots();
  const packs = await listPacks(options.store, { signal: options.signal });
  await check.readPacks(packs);
  await check.readManifests(manifests, packs);
  return check.outcome(packs, objects);
}

type Packs = Awaited<ReturnType<typeof listPacks>>;
type Manifests = Awaited<ReturnType<typeof listManifests>>;

class StoreCheck {
  readonly #options: FsckOptions;
  readonly #problems: string[] = [];
  readonly #notes: string[] = [];
  readonly #indexed = new Set<string>();
  readonly #packer: IndexPacker;
  #problemCount = 0;
  #chunkCount = 0;
  #snapshotCount = 0;
  #unindexedPacks = 0;
  #unindexedChunks = 0;

  constructor(options: FsckOptions) {
    this.#options = options;
    this.#packer = new IndexPacker(options.store, { signal: options.signal });
  }

  async readIndex(objects: readonly ObjectInfo[]): Promise<void> {
    const { store, signal } = this.#options;
    let done = 0;
    await forEachBounded(objects, MAX_FETCHES, async (info) => {
      throwIfAborted(signal);
      try {
        const object = await readIndexObject(store, info, { signal });
        for (const packId of object?.packIds ?? []) this.#indexed.add(packId);
      } catch (error) {
        if (!isDumontError(error, 'CORRUPT')) throw error;
        this.#remark(error.message);
      }
      done += 1;
      this.#options.onProgress?.('index', done, objects.length);
    });
  }

  async listSnapshots(): Promise<Manifests> {
    const { store, signal } = this.#options;
    const manifests = await listManifests(store, { signal });
    const revocations = await readRevocations(store, { signal });
    return manifests.filter(({ snapshotId }) => !isVoid(revocations, snapshotId));
  }

  async readPacks(packs: Packs): Promise<void> {
    const { repair, signal } = this.#options;
    let done = 0;
    await forEachBounded(packs, MAX_FETCHES, async ([packId, { sizeBytes }]) => {
      throwIfAborted(signal);
      const entries = await this.#readPack(packId, sizeBytes);
      done += 1;
      this.#options.onProgress?.('packs', done, packs.size);
      if (entries === null) return;
      this.#chunkCount += entries.length;
      if (!this.#indexed.has(packId)) {
        this.#unindexedPacks += 1;
        this.#unindexedChunks += entries.length;
      }
      if (repair)
        await this.#packer.add(
          [packId],
          entries.map((entry) => Object.assign({ packId }, entry)),
        );
    });
    if (repair) await this.#packer.flush();
  }

  async readManifests(manifests: Manifests, packs: Packs): Promise<void> {
    const { store, readPacks, signal } = this.#options;
    this.#snapshotCount = manifests.length;
    let done = 0;
    await forEachBounded(manifests, MAX_MANIFESTS, async (found) => {
      throwIfAborted(signal);
      const { manifestKey, snapshotId } = found;
      try {
        const missing = (await readPacks(found, { signal })).filter((packId) => !packs.has(packId));
        const [example] = missing;
        if (example !== undefined) {
          throw new DumontError(
            'CORRUPT',
            `it needs ${missing.length} packs that are gone, such as ${packKey(example)}`,
          );
        }
      } catch (error) {
        if (!isDumontError(error, 'CORRUPT') && !isDumontError(error, 'NOT_FOUND')) throw error;
        const isGone = (await store.stat(manifestKey, { signal })) === null;
        const isRefused = isGone || isVoid(await readRevocations(store, { snapshotId, signal }), snapshotId);
        if (!isRefused) this.#complain(`${manifestKey}: ${error.message}`);
      }
      done += 1;
      this.#options.onProgress?.('manifests', done, manifests.length);
    });
  }

  async outcome(packs: Packs, objects: readonly ObjectInfo[]): Promise<FsckOutcome> {
    const { store, repair, signal } = this.#options;
    const stalePacks = [...this.#indexed].filter((packId) => !packs.has(packId)).length;
    // Only now that everything is in the new ones; those written meanwhile by others stay.
    if (repair) for (const { key } of objects) await store.delete(key, { signal });
    let packBytes = 0;
    for (const { sizeBytes } of packs.values()) packBytes += sizeBytes;
    return {
      problems: this.#problems,
      problemCount: this.#problemCount,
      notes: this.#notes,
      packCount: packs.size,
      packBytes,
      chunkCount: this.#chunkCount,
      snapshotCount: this.#snapshotCount,
      indexCount: objects.length,
      unindexedPacks: this.#unindexedPacks,
      unindexedChunks: this.#unindexedChunks,
      stalePacks,
      rebuilt: repair ? this.#packer.written : null,
    };
  }

  /** Null for a pack that is gone by now or damaged. */
  async #readPack(packId: string, sizeBytes: number): Promise<readonly PackIndexEntry[] | null> {
    const { store, signal } = this.#options;
    try {
      return await readPackTail(store, { packId, sizeBytes }, { signal });
    } catch (error) {
      if (isDumontError(error, 'NOT_FOUND')) return null;
      if (!isDumontError(error, 'CORRUPT')) throw error;
      this.#complain(error.message);
      return null;
    }
  }

  #complain(problem: string): void {
    this.#problemCount += 1;
    if (this.#problems.length < MAX_LISTED) this.#problems.push(problem);
  }

  #remark(note: string): void {
    if (this.#notes.length < MAX_LISTED) this.#notes.push(note);
  }
}
