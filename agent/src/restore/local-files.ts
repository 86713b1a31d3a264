import type { Manifest } from '@dumont/shared/format/manifest.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { forEachBounded } from '../storage/for-each-bounded.ts';
import { throwIfAborted } from '../storage/object-store.ts';
import type { FileState } from './file-state.ts';
import type { Comparison, FileToCompare, Flaws, LocalChunk } from './orders.ts';
import { piecesOf } from './plan.ts';
import type { WriterPool } from './writer-pool.ts';

/** Files of one order: enough that the way to a thread does not count, few enough that progress stays live. */
const MAX_BATCH_FILES = 256;
const MAX_BATCH_BYTES = 32 * 1024 * 1024;
/** Orders under way: each thread has the next one waiting. */
const MAX_ORDERS = 8;

export interface FileToCheck {
  readonly state: FileState;
  /** False when the file on disk must be replaced even when its bytes are right. */
  readonly mayKeep: boolean;
}

interface Steps {
  readonly writers: WriterPool;
  readonly manifest: Manifest;
  readonly onFlaws: (flaws: Flaws) => void;
  readonly signal?: AbortSignal | undefined;
}

/** Compares files with what lies under their names, and copies what can be used of it; `onCompared` gets each result. */
export async function compareFiles(
  files: readonly FileToCheck[],
  steps: Steps,
  onCompared: (state: FileState, found: Comparison) => void,
): Promise<void> {
  await forEachBounded(
    batches(files, ({ state }) => state.entry.size),
    MAX_ORDERS,
    async (batch) => {
      throwIfAborted(steps.signal);
      for (const { state } of batch) state.isTouched = true;
      const order = { type: 'compare', files: batch.map((one) => fileToCompare(one, steps.manifest)) } as const;
      const answer = await steps.writers.run<'compare'>(order);
      steps.onFlaws(answer.flaws);
      for (const [index, { state }] of batch.entries()) {
        onCompared(state, must(answer.files[index], 'every file of an order is answered'));
      }
    },
  );
}

/** Makes files that need no chunk: empty ones, and those that are one hole. */
export async function makeEmptyFiles(
  files: readonly FileState[],
  steps: Steps,
  onMade: (state: FileState) => void,
): Promise<void> {
  await forEachBounded(
    batches(files, () => 0),
    MAX_ORDERS,
    async (batch) => {
      throwIfAborted(steps.signal);
      for (const state of batch) state.isTouched = true;
      const orderFiles = batch.map(({ file }) => ({ ...file, wholeBytes: 0 }));
      const answer = await steps.writers.run<'write'>({
        type: 'write',
        buffers: [],
        chunks: [],
        files: orderFiles,
        keep: null,
      });
      steps.onFlaws(answer.flaws);
      for (const state of batch) onMade(state);
    },
  );
}

function fileToCompare({ state, mayKeep }: FileToCheck, manifest: Manifest): FileToCompare {
  const chunks: (LocalChunk & { readonly pieces: { offset: number; length: number }[] })[] = [];
  for (const { index, row, offset, length } of piecesOf(state.entry, manifest)) {
    const chunk = chunks[index];
    if (chunk !== undefined) chunk.pieces.push({ offset, length });
    else {
      const [chunkId] = must(manifest.chunks[row], 'a checked manifest uses listed chunks only');
      chunks.push({ chunkId, pieces: [{ offset, length }] });
    }
  }
  return { ...state.file, chunks, holes: state.entry.holes ?? [], mayKeep };
}

function* batches<Item>(items: readonly Item[], sizeOf: (item: Item) => number): Generator<readonly Item[]> {
  let batch: Item[] = [];
  let bytes = 0;
  for (const item of items) {
    if (batch.length === MAX_BATCH_FILES || (batch.length > 0 && bytes + sizeOf(item) > MAX_BATCH_BYTES)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(item);
    bytes += sizeOf(item);
  }
  if (batch.length > 0) yield batch;
}
