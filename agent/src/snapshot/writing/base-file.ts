import { closeSync, constants, openSync, readSync } from 'node:fs';
import { MAX_CHUNK_BYTES } from '../cdc/cut-window.ts';
import type { ChunkRange } from '../chunker.ts';
import { readOfTrouble } from '../file-reader.ts';
import type { BaseChunk } from './chunk-writer.ts';

/** The difference of a smaller chunk saves too little for the base it needs when it is read. */
const MIN_DELTA_BYTES = 64 * 1024;

/** A file that another may resemble, such as the checkpoint before it. */
export interface BaseFile {
  /** Absolute. */
  readonly path: string;
  /** Chunks of it as it was last snapshot that may be bases, ascending: stored, and no differences themselves. */
  readonly chunks: readonly PlacedChunk[];
}

export interface PlacedChunk {
  readonly id: string;
  /** In the file. */
  readonly offset: number;
  readonly length: number;
}

/** Reads bases from a file that may have changed since: what does not have its id is not used. */
export class BaseReader implements Disposable {
  #byOffset: ReadonlyMap<number, PlacedChunk>;
  readonly #path: string;
  readonly #toId: (raw: Buffer) => string;
  readonly #scratch: Buffer;
  #file: number | undefined;

  /** @param scratch overwritten by every read, {@link MAX_CHUNK_BYTES} */
  constructor(base: BaseFile, toId: (raw: Buffer) => string, scratch: Buffer) {
    this.#path = base.path;
    this.#byOffset = new Map(base.chunks.map((chunk) => [chunk.offset, chunk]));
    this.#toId = toId;
    this.#scratch = scratch;
  }

  /** The chunk that lies where this one does; null when there is none of its length, or it has other bytes by now. */
  baseOf({ offset, length }: ChunkRange): BaseChunk | null {
    const chunk = this.#byOffset.get(offset);
    if (chunk === undefined || chunk.length !== length) return null;
    if (length < MIN_DELTA_BYTES || length > MAX_CHUNK_BYTES) return null;
    const raw = this.#scratch.subarray(0, length);
    return this.#fill(raw, offset) && this.#toId(raw) === chunk.id ? { chunkId: chunk.id, raw } : null;
  }

  [Symbol.dispose](): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }

  #fill(into: Buffer, offset: number): boolean {
    try {
      this.#file ??= openSync(this.#path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
      for (let done = 0; done < into.length;) {
        const count = readSync(this.#file, into, done, into.length - done, offset + done);
        if (count === 0) return false;
        done += count;
      }
      return true;
    } catch (error) {
      readOfTrouble(error);
      this.#byOffset = new Map();
      return false;
    }
  }
}
