import { setImmediate as letOthersRun } from 'node:timers/promises';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { CutWindow, MAX_CHUNK_BYTES } from '../cdc/cut-window.ts';
import type { Segment } from '../chunker.ts';
import { readFileChunks, readPartChunks, type FileRead, type ReadChunk } from '../file-reader.ts';
import type { FileState } from '../../workspace/scan.ts';
import { BaseReader, type BaseFile } from './base-file.ts';
import type { ChunkIds } from './chunk-ids.ts';
import type { ChunkWriter } from './chunk-writer.ts';

/** Work done before the event loop gets a turn: some tens of milliseconds. Without turns native buffers are never freed. */
const TURN_BYTES = 8 * 1024 * 1024;
/** Bytes that take as long as opening and closing a file. */
export const FILE_COST_BYTES = 24 * 1024;

/** A file to be read whole. */
export interface WholeFile {
  /** Absolute. */
  readonly path: string;
  readonly base?: BaseFile | undefined;
}

/** A part of a file whose state is known. */
export interface FilePart extends WholeFile {
  readonly state: FileState;
  readonly segments: readonly Segment[];
}

export interface FileWorkerOptions {
  readonly ids: ChunkIds;
  readonly writer: ChunkWriter;
  readonly clock: Clock;
  /** Raw bytes read since the last call; throws to stop. Called after every chunk. */
  readonly onBytes: (byteCount: number) => void;
}

/** Reads files and writes their chunks, one file at a time, on the thread it is called on. */
export class FileWorker {
  readonly #options: FileWorkerOptions;
  readonly #window = new CutWindow();
  #baseBytes: Buffer | undefined;
  #blockingBytes = 0;

  constructor(options: FileWorkerOptions) {
    this.#options = options;
  }

  /** Overwritten by every call below. */
  get scratch(): Buffer {
    return this.#window.bytes;
  }

  /** @returns when every new chunk is in a pack */
  readFile(file: WholeFile): Promise<FileRead> {
    return this.#drain(readFileChunks(file.path, this.#reading()), file.base);
  }

  /** @returns the ids of its chunks; null when the file changed */
  readPart(part: FilePart): Promise<readonly string[] | null> {
    return this.#drain(readPartChunks(part.path, part, this.#reading()), part.base);
  }

  #reading() {
    const { clock, ids } = this.#options;
    return { clock, window: this.#window, toId: (raw: Buffer) => ids.idOf(raw) };
  }

  async #drain<Result>(chunks: Generator<ReadChunk, Result, void>, baseFile: BaseFile | undefined): Promise<Result> {
    const { writer, ids, onBytes } = this.#options;
    using bases = baseFile === undefined ? null : new BaseReader(baseFile, (raw) => ids.idOf(raw), this.#baseScratch());
    try {
      this.#blockingBytes += FILE_COST_BYTES;
      for (let step = chunks.next(); ; step = chunks.next()) {
        if (step.done === true) return step.value;
        const chunk = step.value;
        const waiting = writer.write(chunk, bases === null ? undefined : () => bases.baseOf(chunk));
        if (waiting !== null) await waiting;
        onBytes(chunk.length);
        this.#blockingBytes += chunk.length;
        if (this.#blockingBytes < TURN_BYTES) continue;
        this.#blockingBytes = 0;
        await letOthersRun();
      }
    } catch (error) {
      // Closes the file; what it returned does not matter any more.
      chunks.return(undefined as never);
      throw error;
    }
  }

  #baseScratch(): Buffer {
    this.#baseBytes ??= Buffer.allocUnsafeSlow(MAX_CHUNK_BYTES);
    return this.#baseBytes;
  }
}
