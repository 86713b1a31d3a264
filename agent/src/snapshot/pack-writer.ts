import { randomBytes } from 'node:crypto';
import { encodePackIndex, PACK_TARGET_BYTES, type PackIndexEntry } from '@dumont/shared/format/pack.ts';
import { packKey } from '@dumont/shared/format/layout.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { CodecPool } from '../workers/codec-pool.ts';

/** Packs on their way at once; with the one being filled, at most 128 MiB and a few chunks are in memory. */
const MAX_UPLOADS = 3;
/** Holds a full pack with its last frame and, mostly, its index; a larger one gets a buffer of its own. */
const BUFFER_BYTES = PACK_TARGET_BYTES + 5 * 1024 * 1024;

/** Where a chunk's frame lies. */
export interface ChunkLocation extends PackIndexEntry {
  readonly packId: string;
  /** For codec `delta`: the id of the chunk it is the difference to. */
  readonly baseId?: string | undefined;
}

export interface PackWriterOptions {
  readonly store: ObjectStore;
  readonly codecs: CodecPool;
  /** True for chunks the store holds already. */
  readonly isKnown: (chunkId: string) => boolean;
  readonly onPackStored?: ((packId: string, entries: readonly PackIndexEntry[]) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Gathers new chunks into packs and uploads them, a few at once. Many callers may `add` at the same time; a full
 * pipeline makes them wait. Dispose it to stop: nothing is in flight afterwards.
 */
export class PackWriter implements AsyncDisposable {
  readonly #options: PackWriterOptions;
  readonly #cancel = new AbortController();
  readonly #claimed = new Set<string>();
  readonly #located = new Map<string, ChunkLocation>();
  readonly #uploads = new Set<Promise<void>>();
  /** Buffers of packs already stored, used again: fresh memory costs more than filling it. At most {@link MAX_UPLOADS}. */
  readonly #spares: Buffer[] = [];
  /** Drawn before the pack is filled, so that a chunk's place is known at once. */
  #packId = newPackId();
  #frames: Uint8Array[] = [];
  #index: PackIndexEntry[] = [];
  #framesLength = 0;
  #failure: { readonly error: unknown } | undefined;
  #newBytes = 0;
  #storedBytes = 0;

  constructor(options: PackWriterOptions) {
    this.#options = options;
  }

  /** Chunks written so far, by id; stored for good after {@link finish}. */
  get located(): ReadonlyMap<string, ChunkLocation> {
    return this.#located;
  }

  /** Raw bytes of the chunks added that were new. */
  get newBytes(): number {
    return this.#newBytes;
  }

  /** Bytes of the packs made. */
  get storedBytes(): number {
    return this.#storedBytes;
  }

  /** Makes sure the store will hold the chunk. `raw` may be reused when it returns. Throws what an upload threw. */
  async add(chunkId: string, raw: Uint8Array): Promise<void> {
    if (this.#claimed.has(chunkId) || this.#options.isKnown(chunkId)) return;
    this.#claimed.add(chunkId);
    const rawLength = raw.length;
    const { frame, codec } = await this.#options.codecs.encode(raw);
    await this.#makeRoom();
    const entry = { chunkId, offset: this.#framesLength, storedLength: frame.length, rawLength, codec };
    this.#index.push(entry);
    this.#located.set(chunkId, { ...entry, packId: this.#packId });
    this.#frames.push(frame);
    this.#framesLength += frame.length;
    this.#newBytes += rawLength;
  }

  /** Uploads the rest and returns when every pack is stored. */
  async finish(): Promise<void> {
    if (this.#frames.length > 0) this.#startUpload();
    await Promise.all(this.#uploads);
    this.#throwFailure();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#cancel.abort(new DOMException('the snapshot ended', 'AbortError'));
    await Promise.all(this.#uploads);
  }

  async #makeRoom(): Promise<void> {
    this.#throwFailure();
    while (this.#framesLength >= PACK_TARGET_BYTES) {
      if (this.#uploads.size < MAX_UPLOADS) this.#startUpload();
      else await Promise.race(this.#uploads);
      this.#throwFailure();
    }
  }

  #startUpload(): void {
    const entries = this.#index;
    const index = encodePackIndex(entries, this.#framesLength);
    const buffer = this.#takeBuffer(this.#framesLength + index.length);
    let packLength = 0;
    for (const part of [...this.#frames, index]) {
      buffer.set(part, packLength);
      packLength += part.length;
    }
    const pack = buffer.subarray(0, packLength);
    const packId = this.#packId;
    this.#packId = newPackId();
    this.#frames = [];
    this.#index = [];
    this.#framesLength = 0;
    const { store, signal, onPackStored } = this.#options;
    const signals = signal === undefined ? [this.#cancel.signal] : [this.#cancel.signal, signal];
    const upload = store
      .put(packKey(packId), pack, { ifAbsent: true, signal: AbortSignal.any(signals) })
      .then(
        () => {
          this.#storedBytes += pack.length;
          if (buffer.length === BUFFER_BYTES) this.#spares.push(buffer);
          onPackStored?.(packId, entries);
        },
        (error: unknown) => {
          this.#failure ??= { error };
        },
      )
      .finally(() => this.#uploads.delete(upload));
    this.#uploads.add(upload);
  }

  #takeBuffer(length: number): Buffer {
    if (length < PACK_TARGET_BYTES || length > BUFFER_BYTES) return Buffer.allocUnsafeSlow(length);
    return this.#spares.pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES);
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}

/** 128 random bits: no id ever comes back, not even for the same bytes. */
function newPackId(): string {
  return randomBytes(16).toString('hex');
}
