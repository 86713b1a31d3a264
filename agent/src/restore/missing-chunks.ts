import type { Manifest } from '@dumont/shared/format/manifest.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { isDumontError } from '@dumont/shared/util/errors.ts';
import { throwIfAborted } from '../storage/object-store.ts';
import type { ChunkPeer } from '../peer/chunk-peer.ts';
import { isFromPeer, TwoSources, type Gathered } from '../peer/two-sources.ts';
import type { ChunkCache } from './chunk-cache.ts';
import { placeInCache, placeInPacks, type ChunkFetcher } from './chunk-fetcher.ts';
import type { FileState } from './file-state.ts';
import { runJobs } from './job-queue.ts';
import type { Place } from './new-file.ts';
import type { Flaws, OrderChunk, OrderFile } from './orders.ts';
import { dataBytes, piecesOf, planJobs, type Piece, type PlannedJob } from './plan.ts';
import type { Turn } from './select.ts';
import type { WriterPool } from './writer-pool.ts';

export interface MissingChunksOptions {
  readonly manifest: Manifest;
  readonly place: Place;
  readonly cache: ChunkCache | null;
  readonly writers: WriterPool;
  readonly fetcher: ChunkFetcher;
  /** Whoever else has chunks of the snapshot; null: nobody. */
  readonly peer: ChunkPeer | null;
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
  /** Called for every job that is written. */
  readonly onWritten: (done: {
    readonly bytesWritten: number;
    readonly decodeMs: number;
    readonly chunkCount: number;
    readonly flaws: Flaws;
  }) => void;
  /** Called when a file is in its place. */
  readonly onFinished: (state: FileState) => void;
}

/** A piece of a chunk that a file waits for. */
interface PieceUse extends Piece {
  readonly state: FileState;
  readonly turn: Turn;
}

/** The chunks that files wait for: fetched in the order of the files, checked, and written on threads. */
export class MissingChunks {
  readonly #options: MissingChunksOptions;
  /** By row of the chunk table. */
  readonly #needed = new Map<number, PieceUse[]>();
  readonly #sources: TwoSources | null;

  constructor(options: MissingChunksOptions) {
    this.#options = options;
    const { peer, clock } = options;
    this.#sources = peer === null ? null : new TwoSources(peer, clock);
  }

  get bytesFromPeer(): number {
    return this.#sources?.bytesFromPeer ?? 0;
  }

  /** Notes what a file lacks. @param indexes which of the file's chunks; null for all of them */
  need(state: FileState, indexes: ReadonlySet<number> | null): void {
    for (const piece of piecesOf(state.entry, this.#options.manifest)) {
      if (indexes !== null && !indexes.has(piece.index)) continue;
      const use = { ...piece, state, turn: state.turn };
      const uses = this.#needed.get(piece.row);
      if (uses === undefined) this.#needed.set(piece.row, [use]);
      else uses.push(use);
    }
  }

  /** Fetches and writes everything noted. Files are finished as they become complete. */
  async fetch(): Promise<void> {
    const { manifest, cache, fetcher, clock, signal } = this.#options;
    const jobs = planJobs(manifest, this.#needed, placeInCache(manifest, cache));
    await runJobs(jobs, {
      gather: (job, fromStore) => this.#gather(job, fromStore),
      fetch: async (range, unwanted) => {
        const isCached = cache?.holds(range.source) === true;
        return fetcher.fetch(range, unwanted).catch((error: unknown) => {
          // An empty buffer makes the job fail as a damaged one does, and be fetched anew.
          if (isCached && isDumontError(error, 'CORRUPT')) return new Uint8Array();
          throw error;
        });
      },
      use: (job, buffers) => this.#use(job, buffers),
      clock,
      signal,
    });
  }

  async #gather(
    job: PlannedJob<PieceUse>,
    fromStore: (signal?: AbortSignal) => Promise<readonly Uint8Array[]>,
  ): Promise<Gathered<PieceUse>> {
    const { cache } = this.#options;
    // Nothing is nearer than the cache.
    const isCached = job.ranges.some((range) => cache?.holds(range.source) === true);
    if (this.#sources === null || isCached) return { job, buffers: await fromStore() };
    return this.#sources.gather(job, fromStore);
  }

  /**
   * Writes a job; when frames of the cache or of a peer are damaged these are removed, the peer is asked nothing more, and
   * the job is fetched from the store.
   */
  async #use(job: PlannedJob<PieceUse>, buffers: readonly Uint8Array[]): Promise<void> {
    const { cache, manifest, fetcher, peer } = this.#options;
    const cached = job.ranges.filter((range) => cache?.holds(range.source) === true);
    try {
      await this.#write(job, buffers);
    } catch (error) {
      if (!isDumontError(error, 'CORRUPT') || (cached.length === 0 && !isFromPeer(job))) throw error;
      if (isFromPeer(job)) peer?.distrust(error);
      for (const { source } of cached) await cache?.drop(source);
      const uses = new Map(job.chunks.flatMap((chunk) => (chunk.uses.length > 0 ? [[chunk.row, chunk.uses]] : [])));
      for (const again of planJobs(manifest, uses, placeInPacks(manifest))) {
        const fetched: Uint8Array[] = [];
        for (const range of again.ranges) fetched.push(await fetcher.fetch(range));
        await this.#write(again, fetched);
      }
    }
  }

  async #write(job: PlannedJob<PieceUse>, buffers: readonly Uint8Array[]): Promise<void> {
    const { writers, cache, place, signal, onWritten, onFinished } = this.#options;
    throwIfAborted(signal);
    const bytesOf = new Map<FileState, number>();
    for (const { uses } of job.chunks) {
      for (const { state, length } of uses) bytesOf.set(state, (bytesOf.get(state) ?? 0) + length);
    }
    const rows = new Map([...bytesOf.keys()].map((state, row) => [state, row]));
    const files = [...bytesOf].map(([state, bytes]) => orderFile(state, bytes, place));
    const chunks = job.chunks.map(({ uses, range, ...chunk }): OrderChunk => {
      const places = uses.map(({ state, from, offset, length }) => {
        return { file: must(rows.get(state), 'every file of a job is listed'), from, offset, length };
      });
      return { ...chunk, buffer: range, uses: places };
    });
    const fresh = job.ranges.flatMap(({ source }, index) => (cache?.holds(source) === false ? [index] : []));
    const keep = cache !== null && fresh.length > 0 ? { path: cache.newSegment(), buffers: fresh } : null;
    const answer = await writers.run<'write'>({ type: 'write', buffers, chunks, files, keep });
    if (keep !== null) await cache?.admit(keep.path);
    onWritten({ ...answer, chunkCount: job.chunks.length });
    for (const [state, bytes] of bytesOf) {
      state.missingBytes -= bytes;
      if (state.missingBytes > 0) continue;
      if (state.isMade) {
        const listed = state.finish(place);
        onWritten({ bytesWritten: 0, decodeMs: 0, chunkCount: 0, flaws: { count: listed.length, listed } });
      }
      onFinished(state);
    }
  }
}

/** A file as the order makes it: whole when everything it needs is in the order. */
function orderFile(state: FileState, bytes: number, place: Place): OrderFile {
  const isWhole = !state.isMade && bytes === dataBytes(state.entry);
  if (!isWhole) state.make(place);
  state.isTouched = true;
  return { ...state.file, wholeBytes: isWhole ? bytes : null };
}
