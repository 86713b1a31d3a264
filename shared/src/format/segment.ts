import { DumontError } from '../util/errors.ts';
import { checkSegment } from './segment-check.ts';
import { MAX_SEGMENT_BYTES } from './limits.ts';
import type { ChunkRow, Entry, Manifest, ManifestRoot } from './manifest.ts';
import { checkTogether } from './manifest-check.ts';

/** A run of a snapshot's entries with the places of all chunks they use: complete in itself. */
export interface Segment {
  readonly packs: readonly string[];
  readonly chunks: readonly ChunkRow[];
  /** Ascending by path, at least one; rows are those of this segment's `chunks`. */
  readonly entries: readonly Entry[];
}

/** Entries of a segment on average; with it a changed file costs some 50 KB, and a tree of 100,000 has 200 segments. */
const MEAN_ENTRIES = 512;
/** A segment is closed at so many entries even where no path asks for it, so that one is soon read and written. */
const MAX_SEGMENT_ENTRIES = 8 * MEAN_ENTRIES;
/** The same for the JSON that its entries are expected to take, bytes. */
const MAX_SEGMENT_WEIGHT = 3 * 1024 * 1024;
const ENTRY_WEIGHT = 160;
const CHUNK_WEIGHT = 96;

/**
 * True when a segment begins at this path. Depends on nothing else, so an entry more or less leaves all other boundaries
 * where they are. Not part of the format: a writer may cut elsewhere. Pure.
 */
export function beginsSegment(path: string): boolean {
  let hash = 0x811c9dc5;
  for (let at = 0; at < path.length; at += 1) hash = Math.imul(hash ^ path.charCodeAt(at), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) % MEAN_ENTRIES === 0;
}

/** About how many bytes of JSON an entry adds to its segment, with its chunks' rows. Pure. */
export function segmentWeight(entry: { readonly path: string }, chunkCount: number, extraBytes: number): number {
  return ENTRY_WEIGHT + entry.path.length + chunkCount * CHUNK_WEIGHT + extraBytes;
}

/** True when nothing more is put into a segment of so many entries and such a weight. Pure. */
export function isSegmentFull(entryCount: number, weight: number): boolean {
  return entryCount >= MAX_SEGMENT_ENTRIES || weight >= MAX_SEGMENT_WEIGHT;
}

/** A segment as UTF-8 JSON. @throws {DumontError} LIMIT for one file with more chunks than a segment can hold */
export function encodeSegment(segment: Segment): Uint8Array {
  const bytes = Buffer.from(JSON.stringify({ packs: segment.packs, chunks: segment.chunks, entries: segment.entries }));
  if (bytes.length <= MAX_SEGMENT_BYTES) return bytes;
  throw new DumontError(
    'LIMIT',
    `a part of the manifest takes ${bytes.length} bytes, the limit is ${MAX_SEGMENT_BYTES}`,
  );
}

/** A segment that holds what the format allows, taken by itself. @throws {DumontError} CORRUPT otherwise */
export function decodeSegment(json: Uint8Array): Segment {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(json));
  } catch (error) {
    throw new DumontError('CORRUPT', 'a segment of the manifest is not JSON', { cause: error });
  }
  return checkSegment(value);
}

/**
 * The whole manifest, safe to act on: every path inside the folder, every reference resolvable.
 * @param segments those of `root.segments`, in order, each decoded
 * @throws {DumontError} CORRUPT when they do not fit together or to the root
 */
export function joinSegments(root: ManifestRoot, segments: readonly Segment[]): Manifest {
  checkTogether(root, segments);
  const packs: string[] = [];
  const packRows = new Map<string, number>();
  const chunks: ChunkRow[] = [];
  const chunkRows = new Map<string, number>();
  const entries: Entry[] = [];
  for (const segment of segments) {
    const packMap = segment.packs.map((packId) => {
      const row = packRows.get(packId) ?? packs.push(packId) - 1;
      packRows.set(packId, row);
      return row;
    });
    const rowMap = mergeChunks(segment.chunks, packMap, { chunks, chunkRows });
    for (const entry of segment.entries) {
      if (entry.type !== 'file') entries.push(entry);
      else entries.push({ ...entry, chunks: entry.chunks.map((row) => rowMap[row] ?? 0) });
    }
  }
  const { counts: _counts, segments: _segments, ...identity } = root;
  return { ...identity, packs, chunks, entries };
}

/** Adds a segment's rows to the whole table; the result maps its rows to those. */
function mergeChunks(
  rows: readonly ChunkRow[],
  packMap: readonly number[],
  whole: { readonly chunks: ChunkRow[]; readonly chunkRows: Map<string, number> },
): readonly number[] {
  const rowMap = rows.map(([id, pack, offset, storedLength, rawLength, codec]) => {
    const row = whole.chunkRows.get(id);
    const plain: ChunkRow = [id, packMap[pack] ?? 0, offset, storedLength, rawLength, codec];
    if (row === undefined) {
      whole.chunkRows.set(id, whole.chunks.length);
      return whole.chunks.push(plain) - 1;
    }
    // A copy that is no difference is preferred: another chunk may name this one as its base.
    if (whole.chunks[row]?.[5] === 'delta' && codec !== 'delta') whole.chunks[row] = plain;
    return row;
  });
  for (const [index, [, pack, offset, storedLength, rawLength, codec, base]] of rows.entries()) {
    const row = rowMap[index] ?? 0;
    const chunk = whole.chunks[row];
    if (base === undefined || chunk?.[5] !== 'delta' || chunk[6] !== undefined) continue;
    whole.chunks[row] = [chunk[0], packMap[pack] ?? 0, offset, storedLength, rawLength, codec, rowMap[base] ?? 0];
  }
  return rowMap;
}
