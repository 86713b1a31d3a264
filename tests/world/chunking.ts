import type { ByteSource } from '@dumont/agent/snapshot/byte-source.ts';
import { CutWindow } from '@dumont/agent/snapshot/cdc/cut-window.ts';
import { hashHex } from '@dumont/agent/snapshot/chunk-codec.ts';
import { cutChunks, type ChunkRange } from '@dumont/agent/snapshot/chunker.ts';
import { findTensors, planSegments } from '@dumont/agent/snapshot/tensor-layout.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';

/** Bytes nobody can compress, the same for the same seed. */
export function seededBytes(size: number, seed: number): Buffer {
  const random = seededRandom(seed);
  const words = new Uint32Array(Math.ceil(size / 4));
  for (let at = 0; at < words.length; at += 1) words[at] = random.next() * 2 ** 32;
  return Buffer.from(words.buffer, 0, size);
}

/** Bytes in memory as a file; reads are answered with at most as many bytes as `readSizes` says, in turn. */
export function memorySource(bytes: Buffer, readSizes: readonly number[] = []): ByteSource & { readBytes: number } {
  let reads = 0;
  return {
    sizeBytes: bytes.length,
    readBytes: 0,
    read(into, offset) {
      const limit = readSizes[reads % readSizes.length] ?? into.length;
      reads += 1;
      const part = bytes.subarray(offset, offset + Math.min(limit, into.length));
      into.set(part);
      this.readBytes += part.length;
      return part.length;
    },
  };
}

export interface SeenChunk extends ChunkRange {
  readonly id: string;
}

/** The chunks the agent makes of a file with these bytes. */
export function chunksOf(bytes: Buffer, readSizes: readonly number[] = []): readonly SeenChunk[] {
  const window = new CutWindow();
  const source = memorySource(bytes, readSizes);
  const segments = planSegments(bytes.length, findTensors(source, window.bytes));
  const seen: SeenChunk[] = [];
  for (const { raw, ...range } of cutChunks(source, segments, window)) seen.push({ ...range, id: hashHex(raw) });
  return seen;
}

/** The chunks that were not there before, each once: what a snapshot uploads. */
export function newChunks(before: readonly SeenChunk[], after: readonly SeenChunk[]): readonly SeenChunk[] {
  const known = new Set(before.map(({ id }) => id));
  return after.filter(({ id }) => !known.has(id) && known.add(id));
}

export function totalBytes(chunks: readonly SeenChunk[]): number {
  return chunks.reduce((sum, { length }) => sum + length, 0);
}
