import { closeSync, constants, openSync, readSync } from 'node:fs';
import type { SyncContent } from '@dumont/shared/protocol/sync.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { CutWindow } from '../snapshot/cdc/cut-window.ts';
import { hashHex } from '../snapshot/chunk-codec.ts';
import { readFileChunks, type FileRead, type ReadChunk } from '../snapshot/file-reader.ts';
import type { KnownState } from './sync-tree.ts';

/** What a file held: its content, or why there is none. */
export type ContentRead =
  | { readonly kind: 'read'; readonly content: SyncContent; readonly state: KnownState; readonly torn: boolean }
  | Exclude<FileRead, { readonly kind: 'read' }>;

/** Reads files as chunks, one at a time. */
export class ContentReader {
  readonly #clock: Clock;
  readonly #window = new CutWindow();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The whole file at once. @param onChunk sees every chunk of every pass; its bytes hold until it returns */
  read(path: string, onChunk: (chunk: ReadChunk) => void = () => {}): ContentRead {
    const steps = this.steps(path);
    for (let step = steps.next(); ; step = steps.next()) {
      if (step.done === true) return step.value;
      onChunk(step.value);
    }
  }

  /** The same step by step; nothing else may be read meanwhile. A chunk that begins at 0 begins another pass. */
  *steps(path: string): Generator<ReadChunk, ContentRead, void> {
    const lengths = new Map<string, number>();
    const chunks = readFileChunks(path, { clock: this.#clock, toId: hashHex, window: this.#window });
    for (;;) {
      const step = chunks.next();
      if (step.done === true) return toContent(step.value, lengths);
      lengths.set(step.value.chunkId, step.value.length);
      try {
        yield step.value;
      } catch (error) {
        chunks.return({ kind: 'vanished' });
        throw error;
      }
    }
  }
}

/** Where the chunks of a content lie. */
export function* chunkOffsets({
  chunks,
  holes,
}: SyncContent): Generator<readonly [id: string, length: number, offset: number]> {
  let offset = 0;
  let hole = 0;
  for (const [id, length] of chunks) {
    for (let next = holes[hole]; next !== undefined && next[0] === offset; next = holes[(hole += 1)]) offset += next[1];
    yield [id, length, offset];
    offset += length;
  }
}

/** Reads bytes of a file; null when they are not all there. A link in its place is not followed. */
export function readRange(path: string, offset: number, length: number): Buffer | null {
  let file: number;
  try {
    file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return null;
  }
  try {
    return readRangeOf(file, offset, length);
  } finally {
    closeSync(file);
  }
}

/** The same of an open file. */
export function readRangeOf(file: number, offset: number, length: number): Buffer | null {
  const bytes = Buffer.allocUnsafeSlow(length);
  for (let done = 0; done < length;) {
    const count = readSync(file, bytes, done, length - done, offset + done);
    if (count === 0) return null;
    done += count;
  }
  return bytes;
}

function toContent(read: FileRead, lengths: ReadonlyMap<string, number>): ContentRead {
  if (read.kind !== 'read') return read;
  const { sizeBytes: size, chunkIds, state, settled, torn } = read;
  const chunks = chunkIds.map((id): [string, number] => [id, lengths.get(id) ?? 0]);
  const holes = (read.holes ?? []).map(([offset, length]): [number, number] => [offset, length]);
  const { size: sizeNow, mtimeNs, ctimeNs, ino, dev } = state;
  return {
    kind: 'read',
    content: { size, chunks, holes },
    state: { size: sizeNow, mtimeNs, ctimeNs, ino, dev, settled },
    torn,
  };
}
