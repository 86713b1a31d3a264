import { closeSync, constants, ftruncateSync, openSync, rmSync } from 'node:fs';
import type { SyncContent } from '@dumont/shared/protocol/sync.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { writeAt } from '../restore/new-file.ts';
import { TEMP_FILE_PREFIX } from '../workspace/ignore.ts';
import { readRangeOf } from './file-content.ts';

/** A large file as it grows chunk by chunk beside the others, under a temporary name in the root folder. */
export class Stage {
  readonly temporary: string;
  readonly #file: number;
  readonly #chunks: [string, number][] = [];
  readonly #offsets = new Map<string, number>();
  readonly #holes: [number, number][] = [];
  #end = 0;

  constructor(root: string, name: string) {
    this.temporary = `${root}/${TEMP_FILE_PREFIX}${name}`;
    rmSync(this.temporary, { force: true });
    this.#file = openSync(this.temporary, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
  }

  /** @param bytes of the chunk, checked. @throws {DumontError} PROTOCOL unless chunks come in order */
  write(chunkId: string, bytes: Uint8Array, offset: number): void {
    if (offset < this.#end) throw new DumontError('PROTOCOL', `a chunk at ${offset} overlaps what is staged`);
    if (offset > this.#end) this.#holes.push([this.#end, offset - this.#end]);
    writeAt(this.#file, bytes, offset);
    this.#chunks.push([chunkId, bytes.length]);
    this.#offsets.set(chunkId, offset);
    this.#end = offset + bytes.length;
  }

  /** Bytes of a chunk that was written, or null. Not checked. */
  read(chunkId: string, length: number): Buffer | null {
    const offset = this.#offsets.get(chunkId);
    return offset === undefined ? null : readRangeOf(this.#file, offset, length);
  }

  get chunkIds(): Iterable<string> {
    return this.#offsets.keys();
  }

  /** Gives it its length. @returns what it holds. @throws {DumontError} PROTOCOL when a part is missing that is no hole */
  finish(size: number, holes: SyncContent['holes']): SyncContent {
    const found = [...this.#holes];
    if (this.#end < size) found.push([this.#end, size - this.#end]);
    ftruncateSync(this.#file, Math.max(size, this.#end));
    if (size < this.#end || JSON.stringify(found) !== JSON.stringify(holes)) {
      throw new DumontError('PROTOCOL', 'a staged file is not complete');
    }
    return { size, chunks: this.#chunks, holes };
  }

  /** Open for writing, as long as the stage is. */
  get file(): number {
    return this.#file;
  }

  /** Closes and removes it; one that got its name is not touched. */
  [Symbol.dispose](): void {
    closeSync(this.#file);
    rmSync(this.temporary, { force: true });
  }
}
