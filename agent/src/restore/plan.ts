import { matchesGlob } from 'node:path';
import type { Entry, FileEntry, Manifest } from '@dumont/shared/format/manifest.ts';
import type { Codec } from '@dumont/shared/format/pack.ts';
import { must } from '@dumont/shared/util/assert.ts';

/** Frames this close in a pack are fetched together: the gap costs less than another request. */
const MAX_GAP_BYTES = 64 * 1024;
/** Longest range of one request; with the parallel ones it bounds the memory of a restore. */
const MAX_RANGE_BYTES = 8 * 1024 * 1024;

/** One chunk to fetch and who waits for it. */
export interface PlannedChunk<Use> {
  readonly chunkId: string;
  /** Of the frame, bytes from the pack's start. */
  readonly offset: number;
  readonly storedLength: number;
  readonly rawLength: number;
  readonly codec: Codec;
  readonly uses: readonly Use[];
}

/** One request: a byte range of a pack and the chunks in it, ascending. */
export interface PlannedFetch<Use> {
  readonly packId: string;
  readonly offset: number;
  readonly length: number;
  readonly chunks: readonly PlannedChunk<Use>[];
}

/**
 * The entries to restore: those whose path, or a folder above it, matches `include` (a glob, or a path), and the folders
 * that lead to them; all of them without `include`. A hard link to a file that is left out becomes that file. Pure.
 */
export function selectEntries(entries: readonly Entry[], include: string | undefined): readonly Entry[] {
  if (include === undefined) return entries;
  const matched = new Set<string>();
  const needed = new Set<string>();
  for (const { path } of entries) {
    const slash = path.lastIndexOf('/');
    const isBelow = slash !== -1 && matched.has(path.slice(0, slash));
    if (!isBelow && path !== include && !matchesGlob(path, include)) continue;
    matched.add(path);
    for (let end = path.length; end > 0; end = path.lastIndexOf('/', end - 1)) needed.add(path.slice(0, end));
  }
  const files = new Map(entries.flatMap((entry) => (entry.type === 'file' ? [[entry.path, entry] as const] : [])));
  const standIns = new Map<string, string>();
  return entries.flatMap((entry): readonly Entry[] => {
    if (!needed.has(entry.path)) return [];
    if (entry.type !== 'hardlink' || needed.has(entry.target)) return [entry];
    const standIn = standIns.get(entry.target);
    if (standIn !== undefined) return [{ ...entry, target: standIn }];
    standIns.set(entry.target, entry.path);
    return [{ ...must(files.get(entry.target), 'a checked manifest links to files only'), path: entry.path }];
  });
}

/** Where each chunk of a file begins in it, with its row in the chunk table. Pure. */
export function chunkOffsets(
  file: FileEntry,
  manifest: Manifest,
): readonly { readonly row: number; readonly offset: number; readonly length: number; readonly chunkId: string }[] {
  let offset = 0;
  return file.chunks.map((row) => {
    const [chunkId, , , , length] = must(manifest.chunks[row], 'a checked manifest uses listed chunks only');
    const at = { row, offset, length, chunkId };
    offset += length;
    return at;
  });
}

/** Orders the needed rows of the chunk table into few requests: by pack, ascending, neighbours together. Pure. */
export function planFetches<Use>(
  manifest: Manifest,
  uses: ReadonlyMap<number, readonly Use[]>,
): readonly PlannedFetch<Use>[] {
  const byPack = new Map<string, PlannedChunk<Use>[]>();
  for (const [row, users] of uses) {
    const [chunkId, pack, offset, storedLength, rawLength, codec] = must(
      manifest.chunks[row],
      'uses name listed chunks only',
    );
    const packId = must(manifest.packs[pack], 'a checked manifest names listed packs only');
    const chunk = { chunkId, offset, storedLength, rawLength, codec, uses: users };
    const others = byPack.get(packId);
    if (others === undefined) byPack.set(packId, [chunk]);
    else others.push(chunk);
  }
  return [...byPack].flatMap(([packId, chunks]) => mergeRanges(packId, chunks));
}

function mergeRanges<Use>(packId: string, chunks: PlannedChunk<Use>[]): readonly PlannedFetch<Use>[] {
  const fetches: PlannedFetch<Use>[] = [];
  let group: PlannedChunk<Use>[] = [];
  let start = 0;
  let end = 0;
  const close = () => {
    if (group.length > 0) fetches.push({ packId, offset: start, length: end - start, chunks: group });
    group = [];
  };
  for (const chunk of chunks.sort((a, b) => a.offset - b.offset)) {
    const chunkEnd = chunk.offset + chunk.storedLength;
    if (group.length > 0 && (chunk.offset - end > MAX_GAP_BYTES || chunkEnd - start > MAX_RANGE_BYTES)) close();
    if (group.length === 0) start = chunk.offset;
    end = group.length === 0 ? chunkEnd : Math.max(end, chunkEnd);
    group.push(chunk);
  }
  close();
  return fetches;
}
