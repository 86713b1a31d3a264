import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import type { SyncContent } from '@dumont/shared/protocol/sync.ts';
import { CutWindow } from '../snapshot/cdc/cut-window.ts';
import { cutChunks } from '../snapshot/chunker.ts';
import { hashHex } from '../snapshot/chunk-codec.ts';
import { sameFileState } from '../workspace/scan.ts';
import { readRangeOf } from './file-content.ts';
import type { RawChunk } from './outgoing-batch.ts';
import type { KnownState } from './sync-tree.ts';

/** Less is sent whole; more is better sent as a large file, which yields to others. */
const MIN_SIZE_BYTES = 4 * 1024;
const MAX_GROWTH_BYTES = 8 * 1024 * 1024;
const MAX_PIECE_BYTES = 1024 * 1024;

/** A file that got longer and whose last chunk still begins as it did. */
export interface GrownFile {
  /** Chunks that stay. */
  readonly keep: number;
  /** Chunks that come after them. */
  readonly chunks: readonly [string, number][];
  /** The bytes beyond the old end. */
  readonly tail: readonly RawChunk[];
  /** All of it, if what was not read is as it was. */
  readonly content: SyncContent;
  /** Not settled: only the end was read. */
  readonly state: KnownState;
}

/**
 * Reads a file from where its last chunk begins.
 * @returns null when it did not grow, grew much, or was not only appended to
 */
export function readTail(path: string, before: SyncContent): GrownFile | null {
  const last = before.chunks.at(-1);
  if (last === undefined || before.size < MIN_SIZE_BYTES || before.holes.length > 0) return null;
  let file: number | undefined;
  try {
    file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const state = fstatSync(file, { bigint: true });
    const size = Number(state.size);
    if (!state.isFile() || size <= before.size || size - before.size > MAX_GROWTH_BYTES) return null;
    const start = before.size - last[1];
    const bytes = readRangeOf(file, start, size - start);
    if (bytes === null || !sameFileState(state, fstatSync(file, { bigint: true }))) return null;
    if (hashHex(bytes.subarray(0, last[1])) !== last[0]) return null;
    const chunks = cut(bytes);
    const keep = before.chunks.length - 1;
    const content = { size, chunks: [...before.chunks.slice(0, keep), ...chunks], holes: [] };
    const { mtimeNs, ctimeNs, ino, dev } = state;
    const known = { size: state.size, mtimeNs, ctimeNs, ino, dev, settled: false };
    return { keep, chunks, tail: piecesOf(bytes.subarray(last[1])), content, state: known };
  } catch {
    // Whatever it is, reading the whole file meets it again.
    return null;
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

let windowOfThread: CutWindow | undefined;

/** As the whole file would be cut: where a chunk ends depends on nothing before its begin. */
function cut(bytes: Buffer): [string, number][] {
  windowOfThread ??= new CutWindow();
  const source = {
    sizeBytes: bytes.length,
    read: (into: Uint8Array, offset: number) => {
      const part = bytes.subarray(offset, offset + into.length);
      into.set(part);
      return part.length;
    },
  };
  const segments = [{ offset: 0, length: bytes.length, cut: 'content' as const }];
  const chunks: [string, number][] = [];
  // A chunk's bytes hold until the next is cut.
  for (const { raw, length } of cutChunks(source, segments, windowOfThread)) chunks.push([hashHex(raw), length]);
  return chunks;
}

function piecesOf(bytes: Buffer): readonly RawChunk[] {
  const pieces: RawChunk[] = [];
  for (let at = 0; at < bytes.length; at += MAX_PIECE_BYTES) {
    const raw = bytes.subarray(at, at + MAX_PIECE_BYTES);
    pieces.push({ chunkId: hashHex(raw), raw });
  }
  return pieces;
}
