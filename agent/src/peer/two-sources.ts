import type { Clock } from '@dumont/shared/util/clock.ts';
import type { PlannedChunk, PlannedJob } from '../restore/plan.ts';
import type { ChunkPeer, PeerFrame } from './chunk-peer.ts';

/** How long the first source of a job is waited for before the other is asked as well: bounds, and before anything is known. */
const MIN_PATIENCE_MS = 200;
const MAX_PATIENCE_MS = 5_000;
const FIRST_PATIENCE_MS = 1_000;
/** Times what the peer usually takes for so many bytes. */
const PATIENCE = 2;
/** Weight of the newest answer in what it usually takes. */
const NEWEST_WEIGHT = 0.3;

/** A job as it is written, and the bytes it is written from. */
export interface Gathered<Use> {
  readonly job: PlannedJob<Use>;
  readonly buffers: readonly Uint8Array[];
}

/**
 * Gets each job from whoever has it first: the peer, where it has room, else the store; and from the other one too, when
 * that takes longer than the peer usually does. The slower one is called off. So a slow store, a slow peer, and either of
 * them failing, cost little more than time.
 */
export class TwoSources {
  readonly #peer: ChunkPeer;
  readonly #clock: Clock;
  #peerMsPerByte: number | null = null;
  bytesFromPeer = 0;

  constructor(peer: ChunkPeer, clock: Clock) {
    this.#peer = peer;
    this.#clock = clock;
  }

  /**
   * @param fromStore the job's ranges of the store; rejects when its signal aborts
   * @throws what the store throws, when the peer does not have the job either
   */
  async gather<Use>(
    job: PlannedJob<Use>,
    fromStore: (signal: AbortSignal) => Promise<readonly Uint8Array[]>,
  ): Promise<Gathered<Use>> {
    const over = new AbortController();
    const isPeerFirst = this.#peer.hasRoom;
    const patience = this.#clock.sleep(this.#patienceMs(job.bytes), over.signal).catch(() => {});
    try {
      const peer = isPeerFirst
        ? this.#fromPeer(job, over.signal)
        : patience.then(() => this.#fromPeer(job, over.signal));
      if (isPeerFirst) {
        const early = await Promise.race([peer, patience.then(() => null)]);
        if (early !== null) return early;
      }
      const store = fromStore(over.signal).then((buffers) => ({ job, buffers }));
      const storeOrPeer = store.catch(async (error: unknown) => {
        const late = await peer;
        if (late !== null) return late;
        throw error;
      });
      return await Promise.race([storeOrPeer, peer.then((got) => got ?? storeOrPeer)]);
    } finally {
      over.abort();
    }
  }

  /** Never rejects. */
  async #fromPeer<Use>(job: PlannedJob<Use>, signal: AbortSignal): Promise<Gathered<Use> | null> {
    // A base that nobody waits for is not needed: the peer sends no differences.
    const wanted = job.chunks.filter(({ uses }) => uses.length > 0);
    const startMs = this.#clock.monotonicMs();
    const frames = await this.#peer.fetch(wanted, signal);
    if (frames === null || signal.aborted) return null;
    const got = asJob(wanted, frames);
    this.#learn(this.#clock.monotonicMs() - startMs, job.bytes);
    this.bytesFromPeer += got.job.bytes;
    return got;
  }

  #learn(ms: number, bytes: number): void {
    const newest = ms / Math.max(bytes, 1);
    const before = this.#peerMsPerByte ?? newest;
    this.#peerMsPerByte = before + (newest - before) * NEWEST_WEIGHT;
  }

  #patienceMs(bytes: number): number {
    if (this.#peerMsPerByte === null) return FIRST_PATIENCE_MS;
    return Math.min(MAX_PATIENCE_MS, MIN_PATIENCE_MS + PATIENCE * this.#peerMsPerByte * bytes);
  }
}

/** True for a job of which nothing lies in the store's packs as it is. Pure. */
export function isFromPeer(job: PlannedJob<unknown>): boolean {
  return job.ranges.length === 0;
}

function asJob<Use>(wanted: readonly PlannedChunk<Use>[], frames: readonly PeerFrame[]): Gathered<Use> {
  const buffer = Buffer.allocUnsafeSlow(frames.reduce((sum, { frame }) => sum + frame.length, 0));
  let start = 0;
  const chunks = wanted.flatMap((chunk, index) => {
    const sent = frames[index];
    if (sent === undefined) return [];
    sent.frame.copy(buffer, start);
    const placed = { ...chunk, codec: sent.codec, range: 0, start, storedLength: sent.frame.length };
    start += sent.frame.length;
    return [placed];
  });
  return { job: { ranges: [], chunks, bytes: buffer.length }, buffers: [buffer] };
}
