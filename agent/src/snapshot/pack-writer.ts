import { packKey } from '@dumont/shared/format/layout.ts';
import type { PackIndexEntry } from '@dumont/shared/format/pack.ts';
import { assert } from '@dumont/shared/util/assert.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { PACK_BUFFER_BYTES, type FullPack } from './writing/pack-builder.ts';

/** Where a chunk's frame lies. */
export interface ChunkLocation extends PackIndexEntry {
  readonly packId: string;
  /** For codec `delta`: the id of the chunk it is the difference to. */
  readonly baseId?: string | undefined;
}

export interface PackWriterOptions {
  readonly store: ObjectStore;
  /** Buffers there are in all: being filled, waiting to be filled, or on their way to the store. */
  readonly maxBuffers: number;
  readonly onPackStored?: ((packId: string, entries: readonly PackIndexEntry[]) => void) | undefined;
  /** Called once, with what the first upload that failed threw. */
  readonly onFailure: (error: unknown) => void;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Owns the buffers of packs and uploads full ones, as many at once as there are buffers: a slow store gets many streams, a
 * fast one needs few. Buffers are used again, for fresh memory costs more than filling it. Dispose it to stop: nothing is in
 * flight afterwards.
 */
export class PackWriter implements AsyncDisposable {
  readonly #options: PackWriterOptions;
  readonly #cancel = new AbortController();
  readonly #signal: AbortSignal;
  readonly #uploads = new Set<Promise<void>>();
  readonly #free: ArrayBuffer[] = [];
  readonly #waiting: PromiseWithResolvers<ArrayBuffer>[] = [];
  #bufferCount = 0;
  #failure: { readonly error: unknown } | undefined;
  readonly #storedPacks = new Set<string>();
  #storedBytes = 0;

  constructor(options: PackWriterOptions) {
    this.#options = options;
    const { signal } = options;
    this.#signal = signal === undefined ? this.#cancel.signal : AbortSignal.any([this.#cancel.signal, signal]);
  }

  /** Bytes of the packs stored. */
  get storedBytes(): number {
    return this.#storedBytes;
  }

  /** Ids of the packs stored. */
  get storedPacks(): ReadonlySet<string> {
    return this.#storedPacks;
  }

  /** A buffer of {@link PACK_BUFFER_BYTES} to fill, in the order of asking. Rejects with what an upload threw. */
  async takeBuffer(): Promise<ArrayBuffer> {
    this.throwFailure();
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#bufferCount < this.#options.maxBuffers) {
      this.#bufferCount += 1;
      return new ArrayBuffer(PACK_BUFFER_BYTES);
    }
    const waiting = Promise.withResolvers<ArrayBuffer>();
    this.#waiting.push(waiting);
    return waiting.promise;
  }

  /** Starts the upload of a pack; its buffer came from {@link takeBuffer}. */
  upload({ packId, buffer, length, entries }: FullPack): void {
    assert(buffer.byteLength === PACK_BUFFER_BYTES, 'a pack lies in a buffer of ours');
    const { store, onPackStored } = this.#options;
    const upload = store
      .put(packKey(packId), new Uint8Array(buffer, 0, length), { ifAbsent: true, signal: this.#signal })
      .then(
        () => {
          this.#storedBytes += length;
          this.#storedPacks.add(packId);
          onPackStored?.(packId, entries);
          this.#giveBack(buffer);
        },
        (error: unknown) => this.#fail(error),
      )
      .catch((error: unknown) => this.#fail(error))
      .finally(() => this.#uploads.delete(upload));
    this.#uploads.add(upload);
  }

  /** Returns when every pack is stored. Throws what an upload threw. */
  async finish(): Promise<void> {
    await Promise.all(this.#uploads);
    this.throwFailure();
  }

  throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = new DumontError('ABORTED', 'the snapshot ended');
    this.#failure ??= { error: ended };
    this.#cancel.abort(ended);
    this.#rejectWaiting();
    await Promise.all(this.#uploads);
  }

  #giveBack(buffer: ArrayBuffer): void {
    const waiting = this.#waiting.shift();
    if (waiting === undefined) this.#free.push(buffer);
    else waiting.resolve(buffer);
  }

  #fail(error: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = { error };
    this.#rejectWaiting();
    this.#options.onFailure(error);
  }

  #rejectWaiting(): void {
    for (const waiting of this.#waiting.splice(0)) waiting.reject(this.#failure?.error);
  }
}
