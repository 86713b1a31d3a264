import type { FileEntry, Manifest } from '@dumont/shared/format/manifest.ts';
import type { Codec } from '@dumont/shared/format/pack.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { STAGES, type Turn } from './select.ts';

/** Frames this close are fetched together: the gap costs less than another request. */
const MAX_GAP_BYTES = 64 * 1024;
/** Longest range of one request; with those in flight it bounds the memory of a restore. */
const MAX_RANGE_BYTES = 8 * 1024 * 1024;
/** A job above this is fetched without gaps, so that no manifest can make gaps of many small frames fill the memory. */
const MAX_JOB_BYTES = 2 * MAX_RANGE_BYTES;
/** Chunks of one job: what it reports stays small and progress stays live among tiny files. */
const MAX_JOB_CHUNKS = 2_048;
/** A frame is at most so much longer than what it holds: headers, one length per block, a seal. */
const MAX_FRAME_OVERHEAD_BYTES = 64 * 1024;

/** A stretch of a file that a stretch of one chunk fills. */
export interface Piece {
  /** Which of the file's chunks, and that one's row in the chunk table. */
  readonly index: number;
  readonly row: number;
  /** Bytes from the chunk's start. */
  readonly from: number;
  /** Bytes from the file's start. */
  readonly offset: number;
  readonly length: number;
}

/** One byte range of a pack, or of whatever else `place` named. */
export interface PlannedRange {
  readonly source: string;
  readonly offset: number;
  readonly length: number;
}

/** One chunk of a job and who waits for it. */
export interface PlannedChunk<Use> {
  readonly row: number;
  readonly chunkId: string;
  readonly codec: Codec;
  readonly rawLength: number;
  /** Which of the job's ranges its frame lies in, bytes from the range's start, and how long it is. */
  readonly range: number;
  readonly start: number;
  readonly storedLength: number;
  /** For codec `delta`: its base is the last chunk before it in the job that is no delta. */
  readonly uses: readonly Use[];
}

/** What is fetched at once, decoded and written by one thread. */
export interface PlannedJob<Use> {
  readonly ranges: readonly PlannedRange[];
  readonly chunks: readonly PlannedChunk<Use>[];
  /** Sum of its ranges. */
  readonly bytes: number;
}

/** Where the frame of a row of the chunk table is to be read; the pack of the row unless a cache has it. */
export type PlaceOf = (row: number) => { readonly source: string; readonly offset: number };

/** Which stretches of a file which chunks fill; chunks lie end to end around the holes. Pure. */
export function* piecesOf(file: FileEntry, manifest: Manifest): Generator<Piece> {
  const holes = (file.holes ?? []).values();
  let hole = holes.next();
  let offset = 0;
  for (const [index, row] of file.chunks.entries()) {
    const length = must(manifest.chunks[row], 'a checked manifest uses listed chunks only')[4];
    for (let from = 0; from < length;) {
      while (hole.done !== true && hole.value[0] <= offset) {
        offset = hole.value[0] + hole.value[1];
        hole = holes.next();
      }
      const untilHole = hole.done === true ? length - from : hole.value[0] - offset;
      const piece = { index, row, from, offset, length: Math.min(length - from, untilHole) };
      yield piece;
      from += piece.length;
      offset += piece.length;
    }
  }
}

/** Bytes of a file that chunks hold. Pure. */
export function dataBytes(file: FileEntry): number {
  return (file.holes ?? []).reduce((left, [, length]) => left - length, file.size);
}

interface Unit {
  /** A chunk that is no difference, then the differences to it. */
  readonly rows: readonly number[];
  readonly stage: number;
  readonly rank: number;
}

/**
 * Orders the needed rows of the chunk table into jobs of about 8 MiB of few ranges each: by stage, then by the first
 * file that waits. A difference lies in the job of its base, which is fetched for it even when nobody waits for the base.
 * @param uses who waits for which row, and its turn
 * @throws {DumontError} CORRUPT for a frame that is longer than its chunk allows, or a base that is a delta or missing
 */
export function planJobs<Use extends { readonly turn: Turn }>(
  manifest: Manifest,
  uses: ReadonlyMap<number, readonly Use[]>,
  placeOf: PlaceOf,
): readonly PlannedJob<Use>[] {
  const units = unitsOf(manifest, uses).map((unit) => {
    const [head = 0] = unit.rows;
    const { source, offset } = placeOf(head);
    return { rows: unit.rows, stage: unit.stage, rank: unit.rank, source, offset, length: rowOf(manifest, head)[3] };
  });
  units.sort((a, b) => a.stage - b.stage || compare(a.source, b.source) || a.offset - b.offset);
  const groups: { rows: number[]; stage: number; rank: number }[] = [];
  let open: { rows: number[]; stage: number; rank: number } | undefined;
  let [source, start, end, extraBytes] = ['', 0, 0, 0];
  for (const unit of units) {
    const unitEnd = unit.offset + unit.length;
    const extra = unit.rows.slice(1).reduce((sum, row) => sum + rowOf(manifest, row)[3], 0);
    const fits =
      open?.stage === unit.stage &&
      source === unit.source &&
      unit.offset - end <= MAX_GAP_BYTES &&
      unitEnd - start <= MAX_RANGE_BYTES &&
      open.rows.length + unit.rows.length <= MAX_JOB_CHUNKS &&
      extraBytes + extra <= MAX_RANGE_BYTES;
    if (open === undefined || !fits) {
      open = { rows: [], stage: unit.stage, rank: unit.rank };
      groups.push(open);
      [source, start, end, extraBytes] = [unit.source, unit.offset, unitEnd, 0];
    }
    for (const row of unit.rows) open.rows.push(row);
    open.rank = Math.min(open.rank, unit.rank);
    end = Math.max(end, unitEnd);
    extraBytes += extra;
  }
  groups.sort((a, b) => a.stage - b.stage || a.rank - b.rank);
  const served = new Set<number>();
  return groups.map(({ rows }) => jobOf(manifest, { rows, uses, placeOf, served }));
}

function unitsOf<Use extends { readonly turn: Turn }>(
  manifest: Manifest,
  uses: ReadonlyMap<number, readonly Use[]>,
): readonly Unit[] {
  const deltas = new Map<number, number[]>();
  for (const row of uses.keys()) {
    const base = baseOf(manifest, row);
    const head = base ?? row;
    const others = deltas.get(head) ?? [];
    if (base !== null) others.push(row);
    deltas.set(head, others);
  }
  return [...deltas]
    .flatMap(([head, others]) => splitUnit(manifest, head, others))
    .map((rows) => {
      const turns = rows.flatMap((row) => uses.get(row) ?? []).map(({ turn }) => turn);
      const stage = turns.reduce<number>((least, turn) => Math.min(least, STAGES.indexOf(turn.stage)), STAGES.length);
      const ranks = turns.filter((turn) => STAGES.indexOf(turn.stage) === stage);
      return { rows, stage, rank: ranks.reduce((least, turn) => Math.min(least, turn.rank), Number.MAX_SAFE_INTEGER) };
    });
}

/** A base with so many differences that they make more than one job is fetched again for each. */
function splitUnit(manifest: Manifest, head: number, deltas: readonly number[]): readonly (readonly number[])[] {
  const units: number[][] = [[head]];
  let bytes = 0;
  for (const row of deltas) {
    const length = rowOf(manifest, row)[3];
    if ((units.at(-1)?.length ?? 0) >= MAX_JOB_CHUNKS || (bytes > 0 && bytes + length > MAX_RANGE_BYTES)) {
      units.push([head]);
      bytes = 0;
    }
    units.at(-1)?.push(row);
    bytes += length;
  }
  return units;
}

function baseOf(manifest: Manifest, row: number): number | null {
  const [chunkId, , , , rawLength, codec, base] = rowOf(manifest, row);
  if (codec !== 'delta') return null;
  const target = base === undefined ? undefined : manifest.chunks[base];
  if (base === undefined || target === undefined || target[5] === 'delta' || target[4] !== rawLength) {
    throw new DumontError('CORRUPT', `chunk ${chunkId} is the difference to what cannot be its base`);
  }
  return base;
}

function jobOf<Use>(
  manifest: Manifest,
  plan: {
    readonly rows: readonly number[];
    readonly uses: ReadonlyMap<number, readonly Use[]>;
    readonly placeOf: PlaceOf;
    /** A base that is in several jobs is written by the first. */
    readonly served: Set<number>;
  },
): PlannedJob<Use> {
  const frames = plan.rows.map((row) => ({ row, ...plan.placeOf(row), length: rowOf(manifest, row)[3] }));
  let ranges = mergeRanges(frames, MAX_GAP_BYTES);
  if (lengthOf(ranges) > MAX_JOB_BYTES) ranges = mergeRanges(frames, 0);
  const chunks = frames.map(({ row, source, offset, length }) => {
    const [chunkId, , , , rawLength, codec] = rowOf(manifest, row);
    const range = ranges.findIndex(
      (one) => one.source === source && one.offset <= offset && offset + length <= one.offset + one.length,
    );
    const start = offset - must(ranges[range], 'every frame lies in a range').offset;
    const users = plan.served.has(row) ? [] : (plan.uses.get(row) ?? []);
    plan.served.add(row);
    return { row, chunkId, codec, rawLength, range, start, storedLength: length, uses: users };
  });
  return { ranges, chunks, bytes: lengthOf(ranges) };
}

function lengthOf(ranges: readonly PlannedRange[]): number {
  return ranges.reduce((sum, range) => sum + range.length, 0);
}

function mergeRanges(frames: readonly PlannedRange[], gapBytes: number): readonly PlannedRange[] {
  const ranges: { source: string; offset: number; length: number }[] = [];
  for (const frame of frames.toSorted((a, b) => compare(a.source, b.source) || a.offset - b.offset)) {
    const last = ranges.at(-1);
    const end = frame.offset + frame.length;
    const isNear =
      last?.source === frame.source &&
      frame.offset - (last.offset + last.length) <= gapBytes &&
      end - last.offset <= MAX_RANGE_BYTES;
    if (last !== undefined && isNear) last.length = Math.max(last.length, end - last.offset);
    else ranges.push({ source: frame.source, offset: frame.offset, length: frame.length });
  }
  return ranges;
}

function rowOf(manifest: Manifest, row: number): Manifest['chunks'][number] {
  const found = must(manifest.chunks[row], 'uses name listed chunks only');
  if (found[3] > found[4] + MAX_FRAME_OVERHEAD_BYTES) {
    throw new DumontError('CORRUPT', `the frame of chunk ${found[0]} is said to be longer than any of its length`);
  }
  return found;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
