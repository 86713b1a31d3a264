import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { systemErrorCode } from '@dumont/shared/util/errors.ts';
import { throwIfAborted } from '../storage/object-store.ts';
import { isWithinTick, sameFileState, type FileState } from '../workspace/scan.ts';
import type { ByteSource } from './byte-source.ts';
import type { CutWindow } from './cdc/cut-window.ts';
import { cutChunks } from './chunker.ts';
import { findTensors, planSegments } from './tensor-layout.ts';

/** A file rewritten faster than it can be read three times is reported torn rather than read for ever. */
const MAX_TRIES = 3;

export interface ReadFileOptions {
  readonly clock: Clock;
  /** The id of a chunk. */
  readonly toId: (raw: Uint8Array) => string;
  /** Overwritten; nobody else may use it meanwhile. */
  readonly window: CutWindow;
  /** Takes each chunk before the next is read; the buffer is reused afterwards. */
  readonly onChunk: (chunkId: string, raw: Uint8Array) => Promise<void>;
  readonly signal?: AbortSignal | undefined;
}

export type FileRead =
  | {
      readonly kind: 'read';
      readonly sizeBytes: number;
      readonly chunkIds: readonly string[];
      /** Parts without data, offset and length, ascending; the chunks hold all the rest. */
      readonly holes?: readonly (readonly [offset: number, length: number])[];
      readonly state: FileState;
      /** No write can have happened since `state` without changing it: the file need not be read again while it holds. */
      readonly settled: boolean;
      /** The content may mix two states of the file. */
      readonly torn: boolean;
    }
  | { readonly kind: 'vanished' }
  | { readonly kind: 'unreadable'; readonly reason: string };

interface Pass {
  readonly sizeBytes: number;
  readonly chunkIds: readonly string[];
  readonly state: FileState;
}

/**
 * Reads a file so that the chunks are one state it really had, while others may write to it. Either its times did not
 * move during a pass, or two passes in a row saw the same bytes: then the file held exactly these bytes between them.
 * A file that only grows is thus captured up to its size when it was opened.
 */
export async function readFileChunks(path: string, options: ReadFileOptions): Promise<FileRead> {
  let file: FileHandle | undefined;
  try {
    // Not blocking and not following, because a pipe or a symlink may have taken the file's place.
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    return await readUntilConsistent(file, options);
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP' || code === 'ENXIO') return { kind: 'vanished' };
    if (isFileTrouble(code)) return { kind: 'unreadable', reason: code };
    throw error;
  } finally {
    await file?.close();
  }
}

/** Trouble of this one file; anything else, such as too many open files, ends the snapshot. */
function isFileTrouble(code: string | undefined): code is string {
  return code === 'EACCES' || code === 'EPERM' || code === 'EIO' || code === 'ESTALE' || code === 'EISDIR';
}

async function readUntilConsistent(file: FileHandle, options: ReadFileOptions): Promise<FileRead> {
  let previous: Pass | undefined;
  for (let attempt = 0; attempt < MAX_TRIES; attempt += 1) {
    const nowMs = options.clock.nowMs();
    const state = await file.stat({ bigint: true });
    if (!state.isFile()) return { kind: 'vanished' };
    const grew = previous !== undefined && Number(state.size) >= previous.sizeBytes;
    const sizeBytes = grew && previous !== undefined ? previous.sizeBytes : Number(state.size);
    const chunkIds = await readPass(file, sizeBytes, options);
    const after = await file.stat({ bigint: true });
    if (chunkIds === null) {
      previous = undefined;
      continue;
    }
    const untouched = sameFileState(state, after);
    const settled = untouched && !isWithinTick(state, nowMs);
    const confirmed =
      previous !== undefined && previous.sizeBytes === sizeBytes && sameIds(previous.chunkIds, chunkIds);
    if (settled || confirmed) {
      const whole = sizeBytes === Number(state.size);
      return { kind: 'read', sizeBytes, chunkIds, state, settled: settled && whole, torn: false };
    }
    previous = { sizeBytes, chunkIds, state };
  }
  if (previous === undefined) return { kind: 'unreadable', reason: 'it kept shrinking while it was read' };
  return { kind: 'read', ...previous, settled: false, torn: true };
}

/** Null when the file ended before `sizeBytes`. */
async function readPass(file: FileHandle, sizeBytes: number, options: ReadFileOptions): Promise<string[] | null> {
  const { window, toId, onChunk, signal } = options;
  const source: ByteSource = {
    sizeBytes,
    read: async (into, offset) => (await file.read(into, 0, into.length, offset)).bytesRead,
  };
  const segments = planSegments(sizeBytes, await findTensors(source, window.bytes));
  const chunkIds: string[] = [];
  let doneBytes = 0;
  for await (const { raw } of cutChunks(source, segments, window)) {
    throwIfAborted(signal);
    const chunkId = toId(raw);
    chunkIds.push(chunkId);
    doneBytes += raw.length;
    await onChunk(chunkId, raw);
  }
  return doneBytes === sizeBytes ? chunkIds : null;
}

function sameIds(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((id, index) => id === b[index]);
}
