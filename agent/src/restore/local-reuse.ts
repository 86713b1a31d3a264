import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { MAX_FRAME_RAW_BYTES } from '@dumont/shared/format/lz4-frame.ts';
import type { chunkOffsets } from './plan.ts';
import { chunkIdOf, type StoreSecrets } from '../snapshot/seal.ts';
import { throwIfAborted } from '../storage/object-store.ts';

export type FileChunk = ReturnType<typeof chunkOffsets>[number];

/** A file that already lies where one is to be restored; says which chunks it holds in the right place. */
export class LocalFile implements AsyncDisposable {
  readonly #file: FileHandle;
  readonly #buffer: Buffer;
  readonly #secrets: StoreSecrets | null;

  private constructor(file: FileHandle, longestChunk: number, secrets: StoreSecrets | null) {
    this.#file = file;
    this.#secrets = secrets;
    this.#buffer = Buffer.allocUnsafeSlow(Math.min(longestChunk, MAX_FRAME_RAW_BYTES));
  }

  /** Null when it cannot be read: then nothing is reused. */
  static async open(
    path: string,
    chunks: readonly FileChunk[],
    secrets: StoreSecrets | null,
  ): Promise<LocalFile | null> {
    try {
      const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
      return new LocalFile(
        file,
        chunks.reduce((longest, chunk) => Math.max(longest, chunk.length), 0),
        secrets,
      );
    } catch {
      return null;
    }
  }

  /** The chunk's bytes when the file holds them, else null. Valid until the next call. */
  async read(chunk: FileChunk): Promise<Uint8Array | null> {
    const bytes = this.#buffer.subarray(0, chunk.length);
    for (let done = 0; done < chunk.length;) {
      const { bytesRead } = await this.#file.read(bytes, done, chunk.length - done, chunk.offset + done);
      if (bytesRead === 0) return null;
      done += bytesRead;
    }
    return chunkIdOf(bytes, this.#secrets) === chunk.chunkId ? bytes : null;
  }

  /** The chunks it holds. */
  async matching(chunks: readonly FileChunk[], signal: AbortSignal | undefined): Promise<ReadonlySet<FileChunk>> {
    const found = new Set<FileChunk>();
    for (const chunk of chunks) {
      throwIfAborted(signal);
      if ((await this.read(chunk)) !== null) found.add(chunk);
    }
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}
