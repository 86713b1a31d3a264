import { decodePackIndex, decodePackTrailer, PACK_TRAILER_BYTES } from '@dumont/shared/format/pack.ts';
import type { Manifest } from '@dumont/shared/format/manifest.ts';
import { packKey } from '@dumont/shared/format/layout.ts';
import type { SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { DumontError, isDumontError } from '@dumont/shared/util/errors.ts';
import { readManifest } from '../snapshot/manifest-store.ts';
import type { StoreSecrets } from '../snapshot/seal.ts';
import { forEachBounded } from '../storage/for-each-bounded.ts';
import { throwIfAborted, type ObjectStore } from '../storage/object-store.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { ChunkFetcher, placeInPacks } from './chunk-fetcher.ts';
import { runJobs } from './job-queue.ts';
import { planJobs, type PlannedJob, type PlannedRange } from './plan.ts';
import { deservesThreads, WriterPool } from './writer-pool.ts';

/** Pack indexes looked at at once. */
const MAX_INDEXES = 16;
/** More problems than this are counted, not listed. */
const MAX_LISTED = 100;

/** Which chunks to read: a share of them above 0 up to 1, drawn by the seed. */
export interface DataSample {
  readonly share: number;
  readonly seed: number;
}

export interface VerifyOptions {
  readonly store: ObjectStore;
  readonly snapshot: SnapshotRef;
  readonly clock: Clock;
  /** Fetch and check chunks too, not only that their packs hold them: null none, else a sample. */
  readonly readData: DataSample | null;
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
  /** Chunks whose bytes were read and checked. */
  readonly chunksRead: number;
  readonly bytesRead: number;
}

/**
 * Checks a snapshot without restoring it: the manifest's hash and sense, that every pack is there and its own index
 * agrees with the manifest, and with `readData` the bytes of some
 * chunks or all. Damage is a result, not an error.
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
  if (options.readData !== null) await verification.checkData(manifest, options.readData);
  return verification.outcome(manifest);
}

class Verification {
  readonly #options: VerifyOptions;
  readonly #problems: string[] = [];
  #problemCount = 0;
  #bytesRead = 0;
  #chunksRead = 0;
  readonly #missing = new Set<string>();

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
      chunksRead: this.#chunksRead,
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
    await forEachBounded(byPack, MAX_INDEXES, async ([pack, rows]) => {
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

  async checkData(manifest: Manifest, sample: DataSample): Promise<void> {
    const { store, clock, secrets = null, signal } = this.#options;
    const rows = sampleRows(manifest.chunks.length, sample);
    const jobs = planJobs<never>(manifest, new Map(rows.map((row) => [row, []])), placeInPacks(manifest));
    const totalBytes = jobs.reduce((sum, job) => sum + job.bytes, 0);
    let doneBytes = 0;
    const fetcher = new ChunkFetcher({ store, clock, cache: null, signal });
    const isThreaded = deservesThreads({ bytes: totalBytes, files: 0 });
    const setup = { place: { root: '', owners: false }, coding: { secrets, effort: 'fast' } } as const;
    await using checkers = new WriterPool(setup, { clock, isThreaded });
    await runJobs(jobs, {
      fetch: (range) => this.#fetch(fetcher, range),
      use: async (job, buffers) => {
        await this.#check(job, buffers, checkers);
        doneBytes += job.bytes;
        this.#options.onProgress?.({ doneBytes, totalBytes });
      },
      clock,
      signal,
    });
    this.#bytesRead += fetcher.bytesFetched;
  }

  /** A missing or short pack is noted once; its range is then empty. */
  async #fetch(fetcher: ChunkFetcher, range: PlannedRange): Promise<Uint8Array> {
    try {
      return await fetcher.fetch(range);
    } catch (error) {
      if (!isDumontError(error, 'CORRUPT')) throw error;
      if (!this.#missing.has(range.source)) this.note(error);
      this.#missing.add(range.source);
      return new Uint8Array();
    }
  }

  async #check(job: PlannedJob<never>, buffers: readonly Uint8Array[], checkers: WriterPool): Promise<void> {
    const isThere = buffers.map((bytes) => bytes.length > 0);
    const packs = new Map(job.chunks.map(({ chunkId, range }) => [chunkId, job.ranges[range]?.source ?? '']));
    const chunks = job.chunks.map(({ range, ...chunk }) => ({ ...chunk, buffer: range, uses: [] }));
    const { damaged } = await checkers.run<'check'>({ type: 'check', buffers, chunks });
    this.#chunksRead += chunks.length;
    for (const { chunkId, message } of damaged) {
      const chunk = must(
        job.chunks.find((one) => one.chunkId === chunkId),
        'what is damaged was asked for',
      );
      if (isThere[chunk.range] !== true) continue;
      this.note(new DumontError('CORRUPT', `${packKey(packs.get(chunkId) ?? '')}: chunk ${chunkId}: ${message}`));
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

/** The rows a sample takes, ascending; at least one of any. Pure. */
function sampleRows(count: number, { share, seed }: DataSample): readonly number[] {
  const rows = Array.from({ length: count }, (_, row) => row);
  const wanted = Math.min(count, Math.ceil(count * share));
  if (wanted === count) return rows;
  const random = seededRandom(seed);
  for (let at = 0; at < wanted; at += 1) {
    const other = at + Math.floor(random.next() * (count - at));
    [rows[at], rows[other]] = [rows[other] ?? 0, rows[at] ?? 0];
  }
  return rows.slice(0, wanted).toSorted((a, b) => a - b);
}

function missing(key: string): DumontError {
  return new DumontError('CORRUPT', `pack ${key} is missing`);
}
