/** Length of every chunk but a file's last; smaller files are one chunk. */
export const CHUNK_BYTES = 1024 * 1024;

export interface ChunkRange {
  readonly offset: number;
  readonly length: number;
}

/** Where a file of `sizeBytes` is cut, ascending and without gaps; nothing for an empty file. Pure. */
export function* chunkRanges(sizeBytes: number): Generator<ChunkRange> {
  for (let offset = 0; offset < sizeBytes; offset += CHUNK_BYTES) {
    yield { offset, length: Math.min(CHUNK_BYTES, sizeBytes - offset) };
  }
}
