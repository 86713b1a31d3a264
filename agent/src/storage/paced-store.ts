import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import {
  assertObjectSize,
  throwIfAborted,
  type CallOptions,
  type GetOptions,
  type ObjectInfo,
  type ObjectStat,
  type ObjectStore,
  type PutOptions,
} from './object-store.ts';
import { TokenBucket } from './token-bucket.ts';

/** Caps of a link, bytes a second; undefined for none. */
export interface BandwidthLimits {
  readonly uploadBytesPerSecond?: number | undefined;
  readonly downloadBytesPerSecond?: number | undefined;
  /** Waits until an upload may begin, in place of a cap of its own: the link is shared with others. */
  readonly takeUpload?: TakeBytes | undefined;
}

type TakeBytes = (bytes: number, signal?: AbortSignal) => Promise<void>;

/** Slices of a capped download are half a second of it, but no smaller than a request is worth and no larger than a pack. */
const SLICE_SECONDS = 0.5;
const MIN_SLICE_BYTES = 256 * 1024;
const MAX_SLICE_BYTES = 16 * 1024 * 1024;
/** Saved up while nothing moves, as a part of a second. */
const BURST_SECONDS = 0.25;

/**
 * Keeps another store's transfers below a rate. Downloads go in slices; an upload is one PUT, which begins when the rate
 * has room for the whole of it, so the rate holds on average over a few objects.
 */
export class PacedStore implements ObjectStore {
  readonly #inner: ObjectStore;
  readonly #takeUpload: TakeBytes | null;
  readonly #downloads: TokenBucket | null;
  readonly #sliceBytes: number;

  constructor(inner: ObjectStore, limits: BandwidthLimits, clock: Clock) {
    this.#inner = inner;
    const bucketOf = (rate: number | undefined) =>
      rate === undefined ? null : new TokenBucket({ ratePerSecond: rate, burst: rate * BURST_SECONDS, clock });
    const uploads = bucketOf(limits.uploadBytesPerSecond);
    this.#takeUpload = limits.takeUpload ?? (uploads === null ? null : (bytes, signal) => uploads.take(bytes, signal));
    this.#downloads = bucketOf(limits.downloadBytesPerSecond);
    const slice = Math.floor((limits.downloadBytesPerSecond ?? 0) * SLICE_SECONDS);
    this.#sliceBytes = Math.min(MAX_SLICE_BYTES, Math.max(MIN_SLICE_BYTES, slice));
  }

  async put(key: string, bytes: Uint8Array, options?: PutOptions): Promise<'stored' | 'exists'> {
    await take(this.#takeUpload, bytes.length, options?.signal);
    return this.#inner.put(key, bytes, options);
  }

  async get(key: string, options: GetOptions = {}): Promise<Uint8Array> {
    const downloads = this.#downloads;
    if (downloads === null) return this.#inner.get(key, options);
    const takeDownload: TakeBytes = (bytes, stop) => downloads.take(bytes, stop);
    const { signal } = options;
    const { offset, length } = options.range ?? { offset: 0, length: await this.#sizeOf(key, signal) };
    if (length <= this.#sliceBytes) {
      await take(takeDownload, length, signal);
      return this.#inner.get(key, options);
    }
    const bytes = Buffer.allocUnsafeSlow(length);
    for (let done = 0; done < length; done += this.#sliceBytes) {
      const part = Math.min(this.#sliceBytes, length - done);
      await take(takeDownload, part, signal);
      bytes.set(await this.#inner.get(key, { range: { offset: offset + done, length: part }, signal }), done);
    }
    return bytes;
  }

  stat(key: string, options?: CallOptions): Promise<ObjectStat | null> {
    return this.#inner.stat(key, options);
  }

  list(prefix: string, options?: CallOptions): AsyncIterable<ObjectInfo> {
    return this.#inner.list(prefix, options);
  }

  delete(key: string, options?: CallOptions): Promise<void> {
    return this.#inner.delete(key, options);
  }

  async #sizeOf(key: string, signal: AbortSignal | undefined): Promise<number> {
    const found = await this.#inner.stat(key, { signal });
    if (found === null) throw new DumontError('NOT_FOUND', `there is no object ${key}`);
    assertObjectSize(key, found.sizeBytes);
    return found.sizeBytes;
  }
}

async function take(takeBytes: TakeBytes | null, bytes: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await takeBytes?.(bytes, signal);
  } catch (reason) {
    throwIfAborted(signal);
    throw reason;
  }
}
