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
  readonly #size: number;
  readonly #chunks: [string, number][] = [];
  readonly #offsets = new Map<string, number>();
  readonly #holes: [number, number][] = [];
  #end = 0;

  /** @param size of the file; what is not written of it is a hole */
  constructor(root: string, name: string, size: number) {
    this.temporary = `${root}/${TEMP_FILE_PREFIX}${name}`;
    this.#size = size;
    rmSync(this.temporary, { force: true });
    this.#file = openSync(this.temporary, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
    ftruncateSync(this.#file, size);
  }

  /** @param bytes of the chunk, checked. @throws {DumontError} PROTOCOL unless chunks come in order and fit */
  write(chunkId: string, bytes: Uint8Array, offset: number): void {
    if (offset < this.#end || offset + bytes.length > this.#size) {
      throw new DumontError('PROTOCOL', `a chunk at ${offset} does not fit into what is staged`);
    }
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

  /** What it holds. @throws {DumontError} PROTOCOL when a part is missing that is no hole */
  content(size: number, holes: SyncContent['holes']): SyncContent {
    const found = [...this.#holes];
    if (this.#end < this.#size) found.push([this.#end, this.#size - this.#end]);
    if (size !== this.#size || JSON.stringify(found) !== JSON.stringify(holes)) {
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
