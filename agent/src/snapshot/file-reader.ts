import { closeSync, constants, fstatSync, openSync, readSync, type BigIntStats } from 'node:fs';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { systemErrorCode } from '@dumont/shared/util/errors.ts';
import { isWithinTick, sameFileState, type FileState } from '../workspace/scan.ts';
import type { ByteSource } from './byte-source.ts';
import { MIN_CHUNK_BYTES, type CutWindow } from './cdc/cut-window.ts';
import { cutChunks, type Chunk, type Segment } from './chunker.ts';
import { findHoles, segmentsBetween, type Hole } from './holes.ts';
import { findTensors, planSegments } from './tensor-layout.ts';

/** A file rewritten faster than it can be read three times is reported torn rather than read for ever. */
const MAX_TRIES = 3;

/** Not blocking and not following, because a pipe or a symlink may have taken the file's place. */
const OPEN_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

export interface ReadFileOptions {
  readonly clock: Clock;
  /** The id of a chunk. */
  readonly toId: (raw: Buffer) => string;
  /** Overwritten; nobody else may use it until the reading ends. */
  readonly window: CutWindow;
}

/** A chunk on its way into a pack; its bytes are valid until the next one is asked for. */
export interface ReadChunk extends Chunk {
  readonly chunkId: string;
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

interface Content {
  readonly sizeBytes: number;
  readonly chunkIds: readonly string[];
  readonly holes: readonly Hole[];
}

/**
 * Reads a file so that the chunks are one state it really had, while others may write to it. Either its times did not
 * move during a pass, or two passes in a row saw the same bytes: then the file held exactly these bytes between them.
 * A file that only grows is thus captured up to its size when it was opened.
 *
 * Yields every chunk of every pass; all of it is synchronous, because for small files the calls of the promise API cost six
 * times the work. Return from the generator to close the file early.
 */
export function* readFileChunks(path: string, options: ReadFileOptions): Generator<ReadChunk, FileRead, void> {
  let file: number | undefined;
  try {
    file = openSync(path, OPEN_FLAGS);
    return yield* readUntilConsistent(path, file, options);
  } catch (error) {
    return readOfTrouble(error);
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** What a failed call on a file means for the snapshot. Trouble that is not this one file's ends it: @throws the error */
export function readOfTrouble(error: unknown): Exclude<FileRead, { readonly kind: 'read' }> {
  const code = systemErrorCode(error);
  if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP' || code === 'ENXIO') return { kind: 'vanished' };
  if (isFileTrouble(code)) return { kind: 'unreadable', reason: code };
  throw error;
}

/**
 * Reads a part of a file whose state is known.
 * @param part.segments ascending, next to each other
 * @returns the ids of its chunks; null when the file was not in that state all the time, or could not be read
 */
export function* readPartChunks(
  path: string,
  part: { readonly state: FileState; readonly segments: readonly Segment[] },
  options: ReadFileOptions,
): Generator<ReadChunk, readonly string[] | null, void> {
  let file: number | undefined;
  try {
    file = openSync(path, OPEN_FLAGS);
    const before = fstatSync(file, { bigint: true });
    if (!before.isFile() || !sameFileState(part.state, before)) return null;
    const source = sourceOf(file, Number(before.size));
    const chunkIds = yield* readSegments(source, part.segments, options);
    return sameFileState(part.state, fstatSync(file, { bigint: true })) ? chunkIds : null;
  } catch (error) {
    readOfTrouble(error);
    return null;
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** A file in one state and where its tensors lie, ascending. */
export interface TensorFile {
  readonly state: FileState;
  readonly segments: readonly Segment[];
}

/**
 * How a file with tensors will be cut; null when it has none, has holes, is being written, or cannot be read.
 * @param scratch overwritten; 8 MiB at least
 */
export function planTensorFile(path: string, scratch: Buffer, clock: Clock): TensorFile | null {
  let file: number | undefined;
  try {
    file = openSync(path, OPEN_FLAGS);
    const nowMs = clock.nowMs();
    const state = fstatSync(file, { bigint: true });
    if (!state.isFile() || maySparse(state) || isWithinTick(state, nowMs)) return null;
    const source = sourceOf(file, Number(state.size));
    const tensors = findTensors(source, scratch);
    return tensors === null ? null : { state, segments: [...planSegments(source.sizeBytes, tensors)] };
  } catch (error) {
    readOfTrouble(error);
    return null;
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** Trouble of this one file; anything else, such as too many open files, ends the snapshot. */
function isFileTrouble(code: string | undefined): code is string {
  return code === 'EACCES' || code === 'EPERM' || code === 'EIO' || code === 'ESTALE' || code === 'EISDIR';
}

function* readUntilConsistent(
  path: string,
  file: number,
  options: ReadFileOptions,
): Generator<ReadChunk, FileRead, void> {
  let previous: (Content & { readonly state: FileState }) | undefined;
  for (let attempt = 0; attempt < MAX_TRIES; attempt += 1) {
    const nowMs = options.clock.nowMs();
    const state = fstatSync(file, { bigint: true });
    if (!state.isFile()) return { kind: 'vanished' };
    const grew = previous !== undefined && Number(state.size) >= previous.sizeBytes;
    const sizeBytes = grew && previous !== undefined ? previous.sizeBytes : Number(state.size);
    const holes = maySparse(state) ? findHoles(path, { state, sizeBytes, scratch: options.window.bytes }) : [];
    const chunkIds = yield* readPass(sourceOf(file, sizeBytes), holes, options);
    const after = fstatSync(file, { bigint: true });
    if (chunkIds === null) {
      previous = undefined;
      continue;
    }
    const content: Content = { sizeBytes, chunkIds, holes };
    const settled = sameFileState(state, after) && !isWithinTick(state, nowMs);
    const confirmed = previous !== undefined && sameContent(previous, content);
    if (settled || confirmed) {
      return toRead(content, state, { settled: settled && sizeBytes === Number(state.size), torn: false });
    }
    previous = { ...content, state };
  }
  if (previous === undefined) return { kind: 'unreadable', reason: 'it kept shrinking while it was read' };
  return toRead(previous, previous.state, { settled: false, torn: true });
}

/** Null when the file ended before its size. */
function* readPass(
  source: ByteSource,
  holes: readonly Hole[],
  options: ReadFileOptions,
): Generator<ReadChunk, string[] | null, void> {
  const { sizeBytes } = source;
  if (sizeBytes === 0) return [];
  if (holes.length > 0) return yield* readSegments(source, segmentsBetween(holes, sizeBytes), options);
  if (sizeBytes > MIN_CHUNK_BYTES) {
    const segments = planSegments(sizeBytes, findTensors(source, options.window.bytes));
    return yield* readSegments(source, segments, options);
  }
  // The same as below, shorter: most files are small.
  const raw = options.window.bytes.subarray(0, sizeBytes);
  for (let done = 0; done < sizeBytes;) {
    const count = source.read(done === 0 ? raw : raw.subarray(done), done);
    if (count === 0) return null;
    done += count;
  }
  const chunkId = options.toId(raw);
  yield { offset: 0, length: sizeBytes, raw, chunkId };
  return [chunkId];
}

/** Null when the source ended before the segments do. */
function* readSegments(
  source: ByteSource,
  segments: Iterable<Segment>,
  { window, toId }: ReadFileOptions,
): Generator<ReadChunk, string[] | null, void> {
  const chunkIds: string[] = [];
  let promisedBytes = 0;
  let doneBytes = 0;
  const counted = function* () {
    for (const segment of segments) {
      promisedBytes += segment.length;
      yield segment;
    }
  };
  for (const chunk of cutChunks(source, counted(), window)) {
    const chunkId = toId(chunk.raw);
    chunkIds.push(chunkId);
    doneBytes += chunk.length;
    yield { ...chunk, chunkId };
  }
  return doneBytes === promisedBytes ? chunkIds : null;
}

function sourceOf(file: number, sizeBytes: number): ByteSource {
  return { sizeBytes, read: (into, offset) => readSync(file, into, 0, into.length, offset) };
}

/** Fewer blocks than bytes: it has holes, or its filesystem compresses. */
function maySparse(state: BigIntStats): boolean {
  return state.blocks * 512n < state.size;
}

function toRead(
  { sizeBytes, chunkIds, holes }: Content,
  state: FileState,
  flags: { readonly settled: boolean; readonly torn: boolean },
): FileRead {
  return { kind: 'read', sizeBytes, chunkIds, ...(holes.length === 0 ? {} : { holes }), state, ...flags };
}

function sameContent(a: Content, b: Content): boolean {
  return (
    a.sizeBytes === b.sizeBytes &&
    a.chunkIds.length === b.chunkIds.length &&
    a.chunkIds.every((id, index) => id === b.chunkIds[index]) &&
    a.holes.length === b.holes.length &&
    a.holes.every(([offset, length], index) => offset === b.holes[index]?.[0] && length === b.holes[index]?.[1])
  );
}
