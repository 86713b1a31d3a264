import { packKey } from '@dumont/shared/format/layout.ts';
import type { ManifestRoot } from '@dumont/shared/format/manifest.ts';
import { decodeSegment, type Segment } from '@dumont/shared/format/segment.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { DumontError, isDumontError } from '@dumont/shared/util/errors.ts';
import { forEachBounded } from '../storage/for-each-bounded.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import { ChunkCoder } from './planes/chunk-coder.ts';
import type { StoreSecrets } from './seal.ts';

/** Frames this close in a pack are fetched together: the gap costs less than another request. */
const MAX_GAP_BYTES = 256 * 1024;
/** Longest range of one request; times {@link MAX_FETCHES} it bounds the memory of reading. */
const MAX_RANGE_BYTES = 8 * 1024 * 1024;
const MAX_FETCHES = 8;

interface SegmentReadOptions extends CallOptions {
  readonly secrets?: StoreSecrets | null | undefined;
}

/** A byte range of a pack and the rows of the root's chunk table in it. */
interface Range {
  readonly packId: string;
  readonly offset: number;
  readonly length: number;
  readonly rows: readonly number[];
}

/**
 * Fetches and decodes all segments of a root, in its order, neighbours in one request.
 * @throws {DumontError} CORRUPT when one is damaged or missing, and what the store throws
 */
export async function readSegments(
  store: ObjectStore,
  root: ManifestRoot,
  options: SegmentReadOptions,
): Promise<{ readonly segments: readonly Segment[]; readonly storedBytes: number }> {
  const coder = new ChunkCoder({ secrets: options.secrets ?? null, effort: 'fast' });
  const assembly = new Assembly(root);
  let storedBytes = 0;
  await forEachBounded(planRanges(root, assembly.rows), MAX_FETCHES, async ({ packId, offset, length, rows }) => {
    const bytes = await fetchRange(store, { packId, offset, length }, options);
    storedBytes += bytes.length;
    for (const row of rows) {
      const [chunkId, , at, storedLength, rawLength, codec] = must(root.chunks[row], 'a checked root lists its rows');
      const frame = bytes.subarray(at - offset, at - offset + storedLength);
      assembly.add(row, coder.decode(frame, { chunkId, codec, rawLength }));
    }
  });
  return { segments: assembly.finish(), storedBytes };
}

/** Decodes each segment as soon as its last chunk is here, so that its bytes can go. */
class Assembly {
  readonly #root: ManifestRoot;
  readonly #segments: (Segment | undefined)[];
  /** By row of the root's chunk table: the segments that still wait for it. */
  readonly #waiting = new Map<number, Set<number>>();
  readonly #parts = new Map<number, Uint8Array>();

  constructor(root: ManifestRoot) {
    this.#root = root;
    this.#segments = root.segments.map(() => undefined);
    for (const [index, { chunks }] of root.segments.entries()) {
      for (const row of chunks) {
        const waiting = this.#waiting.get(row);
        if (waiting === undefined) this.#waiting.set(row, new Set([index]));
        else waiting.add(index);
      }
    }
  }

  /** Rows to fetch. */
  get rows(): readonly number[] {
    return [...this.#waiting.keys()];
  }

  /** @param raw may be used again when this returns */
  add(row: number, raw: Uint8Array): void {
    const indexes = [...(this.#waiting.get(row) ?? [])];
    const rowsOf = (index: number) => must(this.#root.segments[index], 'only segments wait').chunks;
    // Most segments are one chunk, which is decoded where it lies.
    const isCopied = indexes.some((index) => rowsOf(index).length > 1);
    this.#parts.set(row, isCopied ? Buffer.from(raw) : raw);
    for (const index of indexes) {
      const rows = rowsOf(index);
      const parts = rows.flatMap((one) => this.#parts.get(one) ?? []);
      if (parts.length < rows.length) continue;
      this.#segments[index] = decodeSegment(parts.length === 1 ? (parts[0] ?? raw) : Buffer.concat(parts));
      for (const one of rows) {
        const waiting = this.#waiting.get(one);
        waiting?.delete(index);
        if (waiting?.size === 0) this.#parts.delete(one);
      }
    }
  }

  finish(): readonly Segment[] {
    return this.#segments.map((one) => must(one, 'every chunk was fetched'));
  }
}

async function fetchRange(
  store: ObjectStore,
  { packId, offset, length }: Omit<Range, 'rows'>,
  { signal }: SegmentReadOptions,
): Promise<Uint8Array> {
  const key = packKey(packId);
  try {
    return await store.get(key, { range: { offset, length }, signal });
  } catch (error) {
    if (!isDumontError(error, 'NOT_FOUND')) throw error;
    throw new DumontError('CORRUPT', `pack ${key} with a part of the manifest is missing`, { cause: error });
  }
}

function planRanges(root: ManifestRoot, rows: readonly number[]): readonly Range[] {
  const byPack = Map.groupBy(rows, (row) => must(root.chunks[row], 'a checked root lists its rows')[1]);
  return [...byPack].flatMap(([pack, inPack]) => {
    const packId = must(root.packs[pack], 'a checked root lists its packs');
    const placed = inPack.map((row) => {
      const [, , offset, length] = must(root.chunks[row], 'a checked root lists its rows');
      return { row, offset, end: offset + length };
    });
    const ranges: { packId: string; offset: number; length: number; rows: number[] }[] = [];
    for (const { row, offset, end } of placed.sort((a, b) => a.offset - b.offset)) {
      const last = ranges.at(-1);
      const isNear = last !== undefined && offset - (last.offset + last.length) <= MAX_GAP_BYTES;
      if (last === undefined || !isNear || end - last.offset > MAX_RANGE_BYTES) {
        ranges.push({ packId, offset, length: end - offset, rows: [row] });
      } else {
        last.length = Math.max(last.length, end - last.offset);
        last.rows.push(row);
      }
    }
    return ranges;
  });
}
