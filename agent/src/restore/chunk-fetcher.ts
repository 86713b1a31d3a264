import type { Manifest } from '@dumont/shared/format/manifest.ts';
import { packKey } from '@dumont/shared/format/layout.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { DumontError, isDumontError } from '@dumont/shared/util/errors.ts';
import { throwIfAborted, type ObjectStore } from '../storage/object-store.ts';
import type { ChunkCache } from './chunk-cache.ts';
import type { PlannedRange, PlaceOf } from './plan.ts';

/** Where every row lies in the store's packs. Pure. */
export function placeInPacks(manifest: Manifest): PlaceOf {
  return (row) => {
    const [, pack, offset] = must(manifest.chunks[row], 'uses name listed chunks only');
    return { source: must(manifest.packs[pack], 'a checked manifest names listed packs only'), offset };
  };
}

/** Where every row lies in the cache, or else in the store's packs. */
export function placeInCache(manifest: Manifest, cache: ChunkCache | null): PlaceOf {
  const inPacks = placeInPacks(manifest);
  if (cache === null) return inPacks;
  return (row) => cache.placeOf(must(manifest.chunks[row], 'uses name listed chunks only')) ?? inPacks(row);
}

/** Gets the ranges of a plan and counts what came from where. */
export class ChunkFetcher {
  readonly #store: ObjectStore;
  readonly #clock: Clock;
  readonly #cache: ChunkCache | null;
  readonly #signal: AbortSignal | undefined;
  bytesFetched = 0;
  bytesFromCache = 0;
  /** Sum over parallel requests. */
  downloadMs = 0;

  constructor(options: {
    readonly store: ObjectStore;
    readonly clock: Clock;
    readonly cache: ChunkCache | null;
    readonly signal: AbortSignal | undefined;
  }) {
    this.#store = options.store;
    this.#clock = options.clock;
    this.#cache = options.cache;
    this.#signal = options.signal;
  }

  /** @param unwanted ends this one alone. @throws {DumontError} CORRUPT when a pack is missing or too short, or the cache lost the range; what the store throws */
  async fetch({ source, offset, length }: PlannedRange, unwanted?: AbortSignal): Promise<Uint8Array> {
    const signals = [this.#signal, unwanted].filter((one) => one !== undefined);
    const signal = signals.length === 2 ? AbortSignal.any(signals) : signals[0];
    throwIfAborted(signal);
    const range = { offset, length };
    if (this.#cache?.holds(source) === true) {
      const found = await this.#cache.read(source, range);
      if (found === null) throw new DumontError('CORRUPT', 'a segment of the cache is gone');
      this.bytesFromCache += length;
      return found;
    }
    const begunMs = this.#clock.monotonicMs();
    const key = packKey(source);
    const bytes = await this.#store.get(key, { range, signal }).catch((error: unknown) => {
      if (!isDumontError(error, 'NOT_FOUND')) throw error;
      throw new DumontError('CORRUPT', `pack ${key} is missing`, { cause: error });
    });
    this.bytesFetched += bytes.length;
    this.downloadMs += this.#clock.monotonicMs() - begunMs;
    return bytes;
  }
}
