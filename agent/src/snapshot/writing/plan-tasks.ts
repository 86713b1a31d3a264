import { MAX_CHUNK_BYTES } from '../cdc/cut-window.ts';
import type { Segment } from '../chunker.ts';

/** Files up to this size go to a thread many at once, because the way there and back costs as much as reading one. */
const BATCHED_BYTES = 8 * 1024 * 1024;
/** Of a batch: enough to be worth the way, few enough that results come often and threads end together. */
const MAX_BATCH_FILES = 256;
const MAX_BATCH_BYTES = 16 * 1024 * 1024;

/** Files with tensors from this size on are read in parts by several threads. */
export const SPLIT_FILE_BYTES = 128 * 1024 * 1024;
/** Of a part: some tenths of a second of work. */
const PART_BYTES = 64 * 1024 * 1024;

/** Small files in batches, neighbours together; large ones alone, and first, so that none is left when all else is done. */
export function planBatches<File extends { readonly sizeBytes: number }>(files: readonly File[]): readonly File[][] {
  const large: File[] = [];
  const batches: File[][] = [];
  let batch: File[] = [];
  let batchBytes = 0;
  for (const file of files) {
    if (file.sizeBytes > BATCHED_BYTES) {
      large.push(file);
      continue;
    }
    if (batch.length === MAX_BATCH_FILES || (batch.length > 0 && batchBytes + file.sizeBytes > MAX_BATCH_BYTES)) {
      batches.push(batch);
      [batch, batchBytes] = [[], 0];
    }
    batch.push(file);
    batchBytes += file.sizeBytes;
  }
  if (batch.length > 0) batches.push(batch);
  return [...large.toSorted((a, b) => b.sizeBytes - a.sizeBytes).map((file) => [file]), ...batches];
}

/**
 * Segments as parts that make the same chunks: cut between segments, and in fixed ones at multiples of the longest chunk.
 * Pure.
 * @param segments ascending
 */
export function planParts(segments: readonly Segment[]): readonly (readonly Segment[])[] {
  const parts: Segment[][] = [];
  let part: Segment[] = [];
  let partBytes = 0;
  for (const piece of segments.flatMap((segment) => [...piecesOf(segment)])) {
    part.push(piece);
    partBytes += piece.length;
    if (partBytes < PART_BYTES) continue;
    parts.push(part);
    [part, partBytes] = [[], 0];
  }
  if (part.length > 0) parts.push(part);
  return parts;
}

function* piecesOf(segment: Segment): Generator<Segment> {
  const step = segment.cut === 'fixed' ? PART_BYTES - (PART_BYTES % MAX_CHUNK_BYTES) : segment.length;
  for (let done = 0; done < segment.length; done += step) {
    yield { ...segment, offset: segment.offset + done, length: Math.min(step, segment.length - done) };
  }
}
