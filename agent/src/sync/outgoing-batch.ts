import {
  MAX_BATCH_OPS,
  putChunkHeader,
  SYNC_CHUNK_HEADER_BYTES,
  type SyncContent,
  type SyncOp,
} from '@dumont/shared/protocol/sync.ts';
import { type ChunkCoder, maxFrameBytes } from '../snapshot/planes/chunk-coder.ts';
import type { ElementBytes } from '../snapshot/tensor/tensor-span.ts';
import { releaseBuffers } from '../workers/release-buffers.ts';
import type { SyncTree } from './sync-tree.ts';
import { applyToTree } from './tree-ops.ts';

/** Raw bytes after which a batch is sent: what it holds waits for all of it. */
const FULL_BYTES = 2 * 1024 * 1024;

/** A chunk's bytes, valid until the call returns. */
export interface RawChunk {
  readonly chunkId: string;
  readonly raw: Uint8Array;
  readonly elementBytes?: ElementBytes | undefined;
}

/** Operations on their way, with the chunks they need. Every one is applied to the tree as it is added. */
export class OutgoingBatch {
  readonly ops: SyncOp[] = [];
  readonly frames: Buffer[] = [];
  readonly #tree: SyncTree;
  readonly #coder: ChunkCoder;
  readonly #pool = new Set<string>();
  /** Monotonic time of the oldest change in it, ms. */
  sinceMs = Infinity;
  rawBytes = 0;
  /** Size of the files it brings, and of what it appends. */
  bytes = 0;

  constructor(tree: SyncTree, coder: ChunkCoder) {
    this.#tree = tree;
    this.#coder = coder;
  }

  get isFull(): boolean {
    return this.ops.length >= MAX_BATCH_OPS || this.rawBytes >= FULL_BYTES;
  }

  add(op: SyncOp, content?: SyncContent): void {
    applyToTree(this.#tree, op, content);
    this.ops.push(op);
    this.bytes += bytesOf(op);
  }

  /** Sends a chunk along unless the standby has it. */
  offer(chunk: RawChunk): void {
    if (!this.#tree.hasChunk(chunk.chunkId)) this.send(chunk);
  }

  /** Sends bytes along that need not be a chunk of any file. */
  send(chunk: RawChunk): void {
    if (this.#pool.has(chunk.chunkId)) return;
    this.#pool.add(chunk.chunkId);
    this.rawBytes += chunk.raw.length;
    this.frames.push(encodeChunk(this.#coder, chunk, { stage: 0, offset: 0 }));
  }
}

function bytesOf(op: SyncOp): number {
  switch (op.op) {
    case 'file':
      return op.content.size;
    case 'staged':
      return op.size;
    case 'append':
      return op.tail.reduce((sum, [, length]) => sum + length, 0);
    default:
      return 0;
  }
}

/** A chunk's binary message. */
export function encodeChunk(
  coder: ChunkCoder,
  { chunkId, raw, elementBytes }: RawChunk,
  place: { readonly stage: number; readonly offset: number },
): Buffer {
  const message = Buffer.allocUnsafeSlow(SYNC_CHUNK_HEADER_BYTES + maxFrameBytes(raw.length));
  const { length, codec } = coder.encodeInto(raw, { elementBytes }, message, SYNC_CHUNK_HEADER_BYTES);
  putChunkHeader(message, { ...place, chunkId, rawLength: raw.length, codec });
  // What is not needed of a large estimate is not kept while the message waits.
  const used = message.subarray(0, SYNC_CHUNK_HEADER_BYTES + length);
  if (used.length > message.length / 2) return used;
  const copy = Buffer.from(used);
  releaseBuffers([message]);
  return copy;
}
