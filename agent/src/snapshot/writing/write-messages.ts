import { CODECS } from '@dumont/shared/format/pack.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { FileState } from '../../workspace/scan.ts';
import type { FileRead } from '../file-reader.ts';
import type { ChunkLocation } from '../pack-writer.ts';
import type { CodingOptions } from '../planes/chunk-coder.ts';
import type { FilePart, WholeFile } from './file-worker.ts';

/** What a write thread is started with. */
export interface WriteThreadData {
  readonly coding: CodingOptions;
  /** Of SharedClaims. */
  readonly claims: SharedArrayBuffer;
}

export type WriteTask =
  | { readonly type: 'files'; readonly files: readonly WholeFile[] }
  | { readonly type: 'part'; readonly part: FilePart };

export type WriteTaskResult =
  | { readonly type: 'files'; readonly reads: PackedReads }
  | { readonly type: 'part'; readonly chunkIds: readonly string[] | null };

/** To a write thread. Tasks are answered in their order. Buffers are transferred. */
export type WriteOrder =
  | { readonly type: 'task'; readonly task: WriteTask }
  | { readonly type: 'buffer'; readonly buffer: ArrayBuffer }
  /** Use these claims from the next task on. */
  | { readonly type: 'claims'; readonly claims: SharedArrayBuffer }
  /** Send the pack that is being filled. */
  | { readonly type: 'flush' };

/** From a write thread. Chunks are told once, before or with the first message that depends on them. */
export type WriteReport =
  | { readonly type: 'done'; readonly result: WriteTaskResult; readonly located: PackedLocations }
  | {
      readonly type: 'pack';
      readonly packId: string;
      readonly buffer: ArrayBuffer;
      readonly length: number;
      readonly located: PackedLocations;
    }
  | { readonly type: 'need-buffer' }
  | { readonly type: 'progress'; readonly readBytes: number }
  | { readonly type: 'flushed' };

/** Numbers of a location in a row: pack, offset, stored length, raw length, codec. */
const LOCATION_NUMBERS = 5;
const ID_DIGITS = 64;

/** Locations in columns: structured cloning of many small objects costs more than reading small files. */
export interface PackedLocations {
  readonly packIds: readonly string[];
  /** All ids, one after the other. */
  readonly chunkIds: string;
  readonly numbers: Uint32Array;
  /** Of differences: row and id of the base. */
  readonly bases: readonly (readonly [row: number, baseId: string])[];
}

export function packLocations(locations: readonly ChunkLocation[]): PackedLocations {
  const packIds: string[] = [];
  const bases: [number, string][] = [];
  const numbers = new Uint32Array(locations.length * LOCATION_NUMBERS);
  for (const [row, { packId, offset, storedLength, rawLength, codec, baseId }] of locations.entries()) {
    if (packIds.at(-1) !== packId) packIds.push(packId);
    numbers.set([packIds.length - 1, offset, storedLength, rawLength, CODECS.indexOf(codec)], row * LOCATION_NUMBERS);
    if (baseId !== undefined) bases.push([row, baseId]);
  }
  return { packIds, chunkIds: locations.map(({ chunkId }) => chunkId).join(''), numbers, bases };
}

/** Inverse of {@link packLocations}. */
export function unpackLocations({ packIds, chunkIds, numbers, bases }: PackedLocations): readonly ChunkLocation[] {
  const baseIds = new Map(bases);
  return Array.from({ length: numbers.length / LOCATION_NUMBERS }, (_, row) => {
    const at = row * LOCATION_NUMBERS;
    const [pack = 0, offset = 0, storedLength = 0, rawLength = 0, code = 0] = numbers.subarray(
      at,
      at + LOCATION_NUMBERS,
    );
    const location = {
      chunkId: chunkIds.slice(row * ID_DIGITS, (row + 1) * ID_DIGITS),
      packId: must(packIds[pack], 'a location names its pack'),
      offset,
      storedLength,
      rawLength,
      codec: must(CODECS[code], 'a location names a codec'),
    };
    const baseId = baseIds.get(row);
    return baseId === undefined ? location : { ...location, baseId };
  });
}

/** Values of a file's state in a row: size, mtime, ctime, inode, device. */
const STATE_VALUES = 5;

/** Results in columns, for the same reason. */
export interface PackedReads {
  readonly states: BigInt64Array;
  /** Bytes read, by file. */
  readonly sizes: Float64Array;
  /** Number of chunks, by file. */
  readonly counts: Uint32Array;
  readonly settled: Uint8Array;
  readonly chunkIds: string;
  /** Results that are more than that: by row. */
  readonly others: readonly (readonly [row: number, read: FileRead])[];
}

export function packReads(reads: readonly FileRead[]): PackedReads {
  const states = new BigInt64Array(reads.length * STATE_VALUES);
  const sizes = new Float64Array(reads.length);
  const counts = new Uint32Array(reads.length);
  const settled = new Uint8Array(reads.length);
  const chunkIds: string[] = [];
  const others: [number, FileRead][] = [];
  for (const [row, read] of reads.entries()) {
    if (read.kind !== 'read') {
      others.push([row, read]);
      continue;
    }
    if (read.torn || read.holes !== undefined) {
      others.push([row, { ...read, state: stateOf(read.state) }]);
      continue;
    }
    const { size, mtimeNs, ctimeNs, ino, dev } = read.state;
    states.set([size, mtimeNs, ctimeNs, ino, dev], row * STATE_VALUES);
    sizes[row] = read.sizeBytes;
    counts[row] = read.chunkIds.length;
    settled[row] = read.settled ? 1 : 0;
    chunkIds.push(read.chunkIds.join(''));
  }
  return { states, sizes, counts, settled, chunkIds: chunkIds.join(''), others };
}

/** Inverse of {@link packReads}. */
export function unpackReads({ states, sizes, counts, settled, chunkIds, others }: PackedReads): readonly FileRead[] {
  const byRow = new Map(others);
  let at = 0;
  return Array.from(sizes, (sizeBytes, row): FileRead => {
    const other = byRow.get(row);
    if (other !== undefined) return other;
    const values = states.subarray(row * STATE_VALUES, (row + 1) * STATE_VALUES);
    const [size = 0n, mtimeNs = 0n, ctimeNs = 0n, ino = 0n, dev = 0n] = values;
    const ids = Array.from({ length: counts[row] ?? 0 }, () => chunkIds.slice(at, (at += ID_DIGITS)));
    const state = { size, mtimeNs, ctimeNs, ino, dev };
    return { kind: 'read', sizeBytes, chunkIds: ids, state, settled: settled[row] === 1, torn: false };
  });
}

/** Nothing but the state: a stat result would be cloned with all it has. */
function stateOf({ size, mtimeNs, ctimeNs, ino, dev }: FileState): FileState {
  return { size, mtimeNs, ctimeNs, ino, dev };
}
