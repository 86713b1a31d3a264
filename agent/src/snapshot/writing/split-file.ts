import { assert } from '@dumont/shared/util/assert.ts';
import type { FileRead, TensorFile } from '../file-reader.ts';
import type { BaseFile } from './base-file.ts';
import type { WholeFile } from './file-worker.ts';
import { planParts } from './plan-tasks.ts';
import type { QueuedTask } from './write-threads.ts';

/**
 * A file that several threads read in parts. Every part checks before and after that the file is in the one state, so all of
 * them together are what the file held then.
 */
export class SplitFile {
  readonly #file: WholeFile;
  readonly #plan: TensorFile;
  readonly #onDone: (read: FileRead | null) => void;
  #missing = 0;
  #changed = false;

  /** @param onDone called once; null when the file changed and has to be read as a whole */
  constructor(file: WholeFile, plan: TensorFile, onDone: (read: FileRead | null) => void) {
    this.#file = file;
    this.#plan = plan;
    this.#onDone = onDone;
  }

  /** To be followed in any order. */
  tasks(): readonly QueuedTask[] {
    const { path, base } = this.#file;
    const { size, mtimeNs, ctimeNs, ino, dev } = this.#plan.state;
    const state = { size, mtimeNs, ctimeNs, ino, dev };
    const parts = planParts(this.#plan.segments);
    const chunkIds: (readonly string[])[] = parts.map(() => []);
    this.#missing = parts.length;
    return parts.map((segments, index) => ({
      task: { type: 'part', part: { path, state, segments, base: basesWithin(base, segments) } },
      onDone: (result) => {
        assert(result.type === 'part', 'a task has a result of its type');
        if (result.chunkIds === null) this.#changed = true;
        else chunkIds[index] = result.chunkIds;
        this.#missing -= 1;
        if (this.#missing > 0) return;
        const whole = { sizeBytes: Number(size), chunkIds: chunkIds.flat(), state };
        this.#onDone(this.#changed ? null : { kind: 'read', ...whole, settled: true, torn: false });
      },
    }));
  }
}

/** Only the bases that a part can use: all of them in every part would be many. */
function basesWithin(
  base: BaseFile | undefined,
  segments: readonly { readonly offset: number; readonly length: number }[],
): BaseFile | undefined {
  const [first, last] = [segments[0], segments.at(-1)];
  if (base === undefined || first === undefined || last === undefined) return undefined;
  const end = last.offset + last.length;
  return { path: base.path, chunks: base.chunks.filter(({ offset }) => offset >= first.offset && offset < end) };
}
