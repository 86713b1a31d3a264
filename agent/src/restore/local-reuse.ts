import { closeSync, constants, fstatSync, lstatSync, openSync, readSync, rmSync, type BigIntStats } from 'node:fs';
import { MAX_FRAME_RAW_BYTES } from '@dumont/shared/format/lz4-frame.ts';
import { chunkIdOf } from '../snapshot/seal.ts';
import { applyToPath, hasMetadata } from './metadata.ts';
import { createTemporary, finishFile, temporaryPath, writeAt } from './new-file.ts';
import type { Comparison, FileToCompare, LocalChunk, WriterSetup } from './orders.ts';

/**
 * Holes are read, to see that they are zeros, up to this many bytes of a file; one with more is made anew, which costs no
 * more than copying its data.
 */
const MAX_HOLE_BYTES_READ = 1024 * 1024 * 1024;

/** Compares files with what lies under their names, chunk by chunk, and copies what is right of those that are not. */
export class LocalReader {
  readonly #setup: WriterSetup;
  #buffer: Buffer | undefined;

  constructor(setup: WriterSetup) {
    this.#setup = setup;
  }

  /**
   * Keeps the file when it is the wanted one, with its metadata corrected. Else, when it holds some of the chunks, copies
   * these to the temporary file, each checked as it is copied, and finishes that when none is missing.
   */
  compare(file: FileToCompare, onFlaw: (flaw: string) => void): Comparison {
    const path = `${this.#setup.place.root}/${file.path}`;
    const opened = open(path);
    if (opened === null) return { kind: 'partial', isMade: false, missing: allRows(file), copiedBytes: 0 };
    try {
      const stats = fstatSync(opened, { bigint: true });
      const isRight = file.chunks.map((chunk) => this.#read(opened, chunk) !== null);
      const isWhole = Number(stats.size) === file.size && !isRight.includes(false);
      if (file.mayKeep && isWhole && this.#areHolesEmpty(opened, file)) {
        this.#correctMetadata(path, file, onFlaw);
        return { kind: 'kept' };
      }
      return this.#copy(opened, file, { isRight, onFlaw });
    } finally {
      closeSync(opened);
    }
  }

  #copy(
    opened: number,
    file: FileToCompare,
    { isRight, onFlaw }: { readonly isRight: readonly boolean[]; readonly onFlaw: (flaw: string) => void },
  ): Comparison {
    if (!isRight.includes(true)) return { kind: 'partial', isMade: false, missing: allRows(file), copiedBytes: 0 };
    const { place } = this.#setup;
    const temporary = temporaryPath(place.root, file.path);
    const made = createTemporary(temporary, file);
    const missing: number[] = [];
    let copiedBytes = 0;
    try {
      for (const [row, chunk] of file.chunks.entries()) {
        // Read again, and checked again: the file on disk may be changing.
        const bytes = isRight[row] === true ? this.#read(opened, chunk) : null;
        if (bytes === null) {
          missing.push(row);
          continue;
        }
        let from = 0;
        for (const { offset, length } of chunk.pieces) {
          writeAt(made, bytes.subarray(from, from + length), offset);
          from += length;
        }
        copiedBytes += from;
      }
    } catch (error) {
      closeSync(made);
      rmSync(temporary, { force: true });
      throw error;
    }
    if (missing.length > 0) {
      closeSync(made);
      return { kind: 'partial', isMade: true, missing, copiedBytes };
    }
    for (const flaw of finishFile(made, file, place)) onFlaw(flaw);
    return { kind: 'replaced', copiedBytes };
  }

  #correctMetadata(path: string, file: FileToCompare, onFlaw: (flaw: string) => void): void {
    const { place } = this.#setup;
    const stats: BigIntStats = lstatSync(path, { bigint: true });
    if (hasMetadata(path, stats, file, place)) return;
    for (const flaw of applyToPath(path, file, place)) onFlaw(`${file.path}: ${flaw}`);
  }

  /** The chunk's bytes when the file holds them, else null. Valid until the next call. */
  #read(opened: number, chunk: LocalChunk): Uint8Array | null {
    this.#buffer ??= Buffer.allocUnsafeSlow(MAX_FRAME_RAW_BYTES);
    let length = 0;
    for (const piece of chunk.pieces) {
      if (!readInto(opened, this.#buffer.subarray(length, length + piece.length), piece.offset)) return null;
      length += piece.length;
    }
    const bytes = this.#buffer.subarray(0, length);
    return chunkIdOf(bytes, this.#setup.coding.secrets) === chunk.chunkId ? bytes : null;
  }

  #areHolesEmpty(opened: number, { holes }: FileToCompare): boolean {
    if (holes.length === 0) return true;
    this.#buffer ??= Buffer.allocUnsafeSlow(MAX_FRAME_RAW_BYTES);
    if (holes.reduce((sum, [, length]) => sum + length, 0) > MAX_HOLE_BYTES_READ) return false;
    const zeros = Buffer.alloc(MAX_FRAME_RAW_BYTES);
    return holes.every(([offset, length]) => {
      for (let done = 0; done < length;) {
        const bytes = this.#buffer?.subarray(0, Math.min(MAX_FRAME_RAW_BYTES, length - done)) ?? zeros;
        if (!readInto(opened, bytes, offset + done) || !zeros.subarray(0, bytes.length).equals(bytes)) return false;
        done += bytes.length;
      }
      return true;
    });
  }
}

function readInto(opened: number, bytes: Buffer, offset: number): boolean {
  for (let done = 0; done < bytes.length;) {
    const got = readSync(opened, bytes, done, bytes.length - done, offset + done);
    if (got === 0) return false;
    done += got;
  }
  return true;
}

/** Null when it cannot be read: then nothing is reused. */
function open(path: string): number | null {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return null;
  }
}

function allRows(file: FileToCompare): readonly number[] {
  return file.chunks.map((_, row) => row);
}
