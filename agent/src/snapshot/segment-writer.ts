import { MAX_CHUNKS } from '@dumont/shared/format/limits.ts';
import { MAX_FRAME_RAW_BYTES } from '@dumont/shared/format/lz4-frame.ts';
import type { ManifestRoot } from '@dumont/shared/format/manifest.ts';
import { encodeSegment } from '@dumont/shared/format/segment.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { forEachBounded } from '../storage/for-each-bounded.ts';
import { buildTables, ChunkTable } from './draft.ts';
import type { HeldSegment, HeldSnapshot, StoredSegment } from './held-snapshot.ts';
import type { ChunkLocation } from './pack-writer.ts';
import type { WritePipeline } from './write-pipeline.ts';

/** Segments encoded at once: enough for the codec threads, a few megabytes. */
const MAX_ENCODERS = 4;

export interface SegmentWriterOptions {
  readonly pipeline: Pick<WritePipeline, 'addChunk'>;
  /** Every chunk of an entry, from the moment its file was read, and of a segment, once it was added. */
  readonly locate: (chunkId: string) => ChunkLocation | undefined;
}

/**
 * Hands the segments that are in no store to the pipeline, as JSON in chunks of at most 4 MiB.
 * @returns all segments, with where they are stored; for good only once the pipeline is finished
 */
export async function storeSegments(
  segments: readonly HeldSegment[],
  { pipeline, locate }: SegmentWriterOptions,
): Promise<readonly HeldSegment[]> {
  const stored = [...segments];
  const missing = [...segments.entries()].filter(([, segment]) => segment.stored === null);
  await forEachBounded(missing, MAX_ENCODERS, async ([index, segment]) => {
    const tables = buildTables(segment.entries.drafts, locate);
    const json = encodeSegment(tables);
    const chunkIds: string[] = [];
    for (let at = 0; at < json.length; at += MAX_FRAME_RAW_BYTES) {
      chunkIds.push(await pipeline.addChunk(json.subarray(at, at + MAX_FRAME_RAW_BYTES)));
    }
    stored[index] = { ...segment, stored: { chunkIds, packs: tables.packs, chunkCount: tables.chunks.length } };
  });
  return stored;
}

/** What the root says of the segments. @throws {DumontError} LIMIT */
export function describeSegments(
  snapshot: HeldSnapshot,
  locate: (chunkId: string) => ChunkLocation | undefined,
): Pick<ManifestRoot, 'counts' | 'packs' | 'chunks' | 'segments'> {
  if (countChunks(snapshot) > MAX_CHUNKS) {
    throw new DumontError('LIMIT', `the folder has more than the ${MAX_CHUNKS} chunks a snapshot can hold`);
  }
  const table = new ChunkTable(locate);
  const segments = snapshot.segments.map(({ entries, stored }) => ({
    first: entries.firstPath,
    entries: entries.length,
    chunks: storedPlace(stored).chunkIds.map((chunkId) => table.rowOf(chunkId)),
  }));
  return { counts: snapshot.counts, packs: table.packs, chunks: table.chunks, segments };
}

/** Chunks that entries use; one that several segments use counts for each. */
export function countChunks(snapshot: HeldSnapshot): number {
  return snapshot.segments.reduce((sum, { stored }) => sum + (stored?.chunkCount ?? 0), 0);
}

function storedPlace(stored: StoredSegment | null): StoredSegment {
  return must(stored, 'every segment was handed to the pipeline');
}
