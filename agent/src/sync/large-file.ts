import { MAX_COPY_BYTES, MAX_COPY_CHUNKS, type ToStandby } from '@dumont/shared/protocol/sync.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { ReadChunk } from '../snapshot/file-reader.ts';
import type { ChunkCoder } from '../snapshot/planes/chunk-coder.ts';
import type { ContentRead, ContentReader } from './file-content.ts';
import { encodeChunk } from './outgoing-batch.ts';
import type { SyncTree } from './sync-tree.ts';

/** Read in one go before others get their turn: two of the longest chunks at most. */
const STEP_BYTES = 1024 * 1024;

export interface LargeFileOptions {
  readonly path: string;
  readonly root: string;
  readonly size: number;
  readonly tree: SyncTree;
  readonly reader: ContentReader;
  readonly coder: ChunkCoder;
  /** Chunks that lie in stages of the standby; gets those of this file. */
  readonly staged: Set<string>;
  /** A number that no stage of the session had. */
  readonly nextStage: () => number;
}

/**
 * A large file on its way to a stage of the standby, step by step: what the standby has is copied there, only the rest
 * travels. Every pass over the file fills a stage of its own.
 */
export class LargeFile implements Disposable {
  readonly #options: LargeFileOptions;
  readonly #steps: Generator<ReadChunk, ContentRead, void>;
  #copies: [string, number, number][] = [];
  #copyBytes = 0;
  #stage: number | null = null;
  #end = 0;

  constructor(options: LargeFileOptions) {
    this.#options = options;
    this.#steps = options.reader.steps(`${options.root}/${options.path}`);
  }

  get path(): string {
    return this.#options.path;
  }

  /** The stage that holds the last pass. */
  get stage(): number | null {
    return this.#stage;
  }

  get sizeBytes(): number {
    return this.#options.size;
  }

  /** Reads on. @returns what to send, and the outcome once the file was read */
  step(): { readonly messages: readonly (ToStandby | Buffer)[]; readonly read: ContentRead | null } {
    const messages: (ToStandby | Buffer)[] = [];
    for (let bytes = 0; bytes < STEP_BYTES;) {
      const step = this.#steps.next();
      if (step.done === true) {
        this.#flushCopies(messages);
        return { messages, read: step.value };
      }
      bytes += step.value.length;
      this.#add(step.value, messages);
    }
    return { messages, read: null };
  }

  [Symbol.dispose](): void {
    this.#steps.return({ kind: 'vanished' });
  }

  #add(chunk: ReadChunk, messages: (ToStandby | Buffer)[]): void {
    const { tree, coder, staged } = this.#options;
    if (this.#stage === null || chunk.offset < this.#end) this.#beginPass(messages);
    const stage = must(this.#stage, 'a pass has a stage');
    const { chunkId, offset, length } = chunk;
    this.#end = offset + length;
    if (staged.has(chunkId) || tree.hasChunk(chunkId)) {
      this.#copies.push([chunkId, offset, length]);
      this.#copyBytes += length;
      if (this.#copies.length === MAX_COPY_CHUNKS || this.#copyBytes > MAX_COPY_BYTES / 2) this.#flushCopies(messages);
      return;
    }
    this.#flushCopies(messages);
    messages.push(encodeChunk(coder, chunk, { stage, offset }));
    staged.add(chunkId);
  }

  #beginPass(messages: (ToStandby | Buffer)[]): void {
    const { nextStage } = this.#options;
    const before = this.#stage;
    this.#flushCopies(messages);
    this.#stage = nextStage();
    this.#end = 0;
    messages.push({ kind: 'stage', stage: this.#stage });
    this.#previous.push(...(before === null ? [] : [before]));
  }

  /** Stages of passes that another one followed. */
  readonly #previous: number[] = [];

  /** Stages that are not needed once the file is in its place. */
  get spentStages(): readonly number[] {
    return this.#previous;
  }

  #flushCopies(messages: (ToStandby | Buffer)[]): void {
    if (this.#copies.length === 0) return;
    const stage = must(this.#stage, 'copies belong to a stage');
    messages.push({ kind: 'copy', stage, chunks: this.#copies });
    this.#copies = [];
    this.#copyBytes = 0;
  }
}
