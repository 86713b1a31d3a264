import { decodePackIndex, decodePackTrailer, PACK_TRAILER_BYTES } from '@dumont/shared/format/pack.ts';
import type { Manifest } from '@dumont/shared/format/manifest.ts';
import { packKey } from '@dumont/shared/format/layout.ts';
import type { SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import { DumontError, isDumontError } from '@dumont/shared/util/errors.ts';
import { readManifest } from '../snapshot/manifest-store.ts';
import type { StoreSecrets } from '../snapshot/seal.ts';
import { forEachBounded } from '../storage/for-each-bounded.ts';
import { throwIfAborted, type ObjectStore } from '../storage/object-store.ts';
import { CodecPool } from '../workers/codec-pool.ts';
import { planFetches, type PlannedFetch } from './plan.ts';

/** Requests at once. */
const MAX_FETCHES = 8;
/** More problems than this are counted, not listed. */
const MAX_LISTED = 100;

export interface VerifyOptions {
  readonly store: ObjectStore;
  readonly snapshot: SnapshotRef;
  /** Fetch and check every chunk too, not only that its pack holds it. */
  readonly readData: boolean;
  readonly onProgress?: ((done: { readonly doneBytes: number; readonly totalBytes: number }) => void) | undefined;
  /** Keys of an encrypted store. */
  readonly secrets?: StoreSecrets | null | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** `problems` is empty exactly when the snapshot can be restored, as far as was looked at. */
export interface VerifyOutcome {
  readonly problems: readonly string[];
  readonly problemCount: number;
  readonly packCount: number;
  readonly chunkCount: number;
  readonly fileCount: number;
  readonly bytesRead: number;
}

/**
 * Checks a snapshot without restoring it: the manifest's hash and sense, that every pack is there and its own index
 * agrees with the manifest, and with `readData` every chunk's bytes. Damage is a result, not an error.
 * @throws {DumontError} what keeps it from looking: UNAVAILABLE, UNAUTHORIZED, ABORTED, NOT_FOUND for the manifest
 */
export async function verifySnapshot(options: VerifyOptions): Promise<VerifyOutcome> {
  const verification = new Verification(options);
  let manifest: Manifest;
  try {
    const { store, snapshot, secrets, signal } = options;
    ({ manifest } = await readManifest(store, snapshot, { secrets, signal }));
  } catch (error) {
    verification.note(error);
    return verification.outcome(null);
  }
  await verification.checkPacks(manifest);
  if (options.readData) await verification.checkData(manifest);
  return verification.outcome(manifest);
}

class Verification {
  readonly #options: VerifyOptions;
  readonly #problems: string[] = [];
  #problemCount = 0;
  #bytesRead = 0;

  constructor(options: VerifyOptions) {
    this.#options = options;
  }

  outcome(manifest: Manifest | null): VerifyOutcome {
    return {
      problems: this.#problems,
      problemCount: this.#problemCount,
      packCount: manifest?.packs.length ?? 0,
      chunkCount: manifest?.chunks.length ?? 0,
      fileCount: manifest?.entries.filter((entry) => entry.type === 'file').length ?? 0,
      bytesRead: this.#bytesRead,
    };
  }

  /** Damage is noted; anything else is thrown on. */
  note(error: unknown): void {
    if (!isDumontError(error, 'CORRUPT')) throw error;
    this.#problemCount += 1;
    if (this.#problems.length < MAX_LISTED) this.#problems.push(error.message);
  }

  async checkPacks(manifest: Manifest): Promise<void> {
    const byPack = Map.groupBy(manifest.chunks, ([, pack]) => pack);
    await forEachBounded(byPack, MAX_FETCHES, async ([pack, rows]) => {
      throwIfAborted(this.#options.signal);
      const key = packKey(manifest.packs[pack] ?? '');
      try {
        const index = await this.#readIndex(key);
        for (const [chunkId, , offset, storedLength, rawLength, codec] of rows) {
          const entry = index.get(chunkId);
          const agrees =
            entry?.offset === offset &&
            entry.storedLength === storedLength &&
            entry.rawLength === rawLength &&
            entry.codec === codec;
          if (!agrees) this.note(new DumontError('CORRUPT', `${key} does not hold chunk ${chunkId} where it should`));
        }
      } catch (error) {
        this.note(error);
      }
    });
  }

  async checkData(manifest: Manifest): Promise<void> {
    const every = new Map(manifest.chunks.map((_, row) => [row, []]));
    const fetches = planFetches<never>(manifest, every);
    const totalBytes = fetches.reduce((sum, fetch) => sum + fetch.length, 0);
    let doneBytes = 0;
    await using codecs = new CodecPool({ secrets: this.#options.secrets ?? null, effort: 'fast' });
    await forEachBounded(fetches, MAX_FETCHES, async (fetch) => {
      await this.#checkFetch(fetch, codecs);
      doneBytes += fetch.length;
      this.#options.onProgress?.({ doneBytes, totalBytes });
    });
  }

  async #checkFetch(fetch: PlannedFetch<never>, codecs: CodecPool): Promise<void> {
    const { store, signal } = this.#options;
    throwIfAborted(signal);
    const key = packKey(fetch.packId);
    let bytes: Uint8Array;
    try {
      bytes = await store.get(key, { range: { offset: fetch.offset, length: fetch.length }, signal });
    } catch (error) {
      this.note(isDumontError(error, 'NOT_FOUND') ? missing(key) : error);
      return;
    }
    this.#bytesRead += bytes.length;
    for (const chunk of fetch.chunks) {
      const start = chunk.offset - fetch.offset;
      try {
        await codecs.decode(bytes.subarray(start, start + chunk.storedLength), chunk);
      } catch (error) {
        if (!isDumontError(error, 'CORRUPT')) throw error;
        this.note(new DumontError('CORRUPT', `${key}: chunk ${chunk.chunkId}: ${error.message}`));
      }
    }
  }

  async #readIndex(key: string) {
    const { store, signal } = this.#options;
    const found = await store.stat(key, { signal });
    if (found === null) throw missing(key);
    if (found.sizeBytes < PACK_TRAILER_BYTES) throw new DumontError('CORRUPT', `${key} is too short for a pack`);
    const tail = { offset: found.sizeBytes - PACK_TRAILER_BYTES, length: PACK_TRAILER_BYTES };
    const trailer = await store.get(key, { range: tail, signal });
    const range = decodePackTrailer(trailer, found.sizeBytes);
    const bytes = range.length === 0 ? new Uint8Array() : await store.get(key, { range, signal });
    this.#bytesRead += trailer.length + bytes.length;
    return new Map(decodePackIndex(bytes, range).map((entry) => [entry.chunkId, entry]));
  }
}

function missing(key: string): DumontError {
  return new DumontError('CORRUPT', `pack ${key} is missing`);
}
