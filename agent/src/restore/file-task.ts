import { constants } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { FileEntry } from '@dumont/shared/format/manifest.ts';
import { assert } from '@dumont/shared/util/assert.ts';
import { toDumontError } from '@dumont/shared/util/errors.ts';
import { hashHex } from '../snapshot/chunk-codec.ts';
import { TEMP_FILE_PREFIX } from '../workspace/ignore.ts';
import { applyMetadata } from './metadata.ts';

/**
 * One file being rebuilt beside its final place: chunks arrive in any order, and the last one puts the finished file,
 * with its metadata, over whatever has the name. Until then the old file stays as it was.
 */
export class FileTask {
  readonly entry: FileEntry;
  readonly path: string;
  readonly #temporary: string;
  #created: Promise<void> | undefined;
  #missingBytes: number;
  #isDone = false;

  /** @param path absolute, its folder exists */
  constructor(entry: FileEntry, path: string) {
    this.entry = entry;
    this.path = path;
    this.#missingBytes = entry.size;
    // Always the same name for the same path: what a killed restore left is replaced by the next one.
    const name = TEMP_FILE_PREFIX + hashHex(new TextEncoder().encode(entry.path)).slice(0, 24);
    this.#temporary = join(dirname(path), name);
  }

  /** True once the file is in its place. */
  get isDone(): boolean {
    return this.#isDone;
  }

  /** Writes one verified chunk; each byte of the file is written once. */
  async write(bytes: Uint8Array, offset: number): Promise<void> {
    assert(offset + bytes.length <= this.entry.size, 'a chunk lies inside its file');
    try {
      await this.#create();
      const file = await open(this.#temporary, constants.O_WRONLY | constants.O_NOFOLLOW);
      try {
        for (let done = 0; done < bytes.length;) {
          done += (await file.write(bytes, done, bytes.length - done, offset + done)).bytesWritten;
        }
      } finally {
        await file.close();
      }
      this.#missingBytes -= bytes.length;
      if (this.#missingBytes === 0) await this.#finish();
    } catch (error) {
      throw toDumontError(error, 'IO', `restoring ${this.path}`);
    }
  }

  /** Puts an empty file in place. */
  async writeEmpty(): Promise<void> {
    assert(this.entry.size === 0, 'only an empty file has no chunks');
    try {
      await this.#create();
      await this.#finish();
    } catch (error) {
      throw toDumontError(error, 'IO', `restoring ${this.path}`);
    }
  }

  /** Removes what an unfinished file left. Nothing may be writing to it any more. */
  async discard(): Promise<void> {
    if (this.#created !== undefined && !this.#isDone) await rm(this.#temporary, { force: true });
  }

  #create(): Promise<void> {
    this.#created ??= (async () => {
      await rm(this.#temporary, { force: true });
      await (await open(this.#temporary, 'wx', 0o600)).close();
    })();
    return this.#created;
  }

  async #finish(): Promise<void> {
    await applyMetadata(this.#temporary, this.entry);
    await rename(this.#temporary, this.path);
    this.#isDone = true;
  }
}
