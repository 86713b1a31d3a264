import { lstatSync } from 'node:fs';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { DirtyMark } from './dirty-set.ts';
import { IGNORE_FILE } from './ignore.ts';

/** Looked at one by one when a total is asked for, some 10 ms; what is beyond counts as the mean of these. */
const MAX_LOOKED_AT = 4_096;

/** Bytes of the file at a path below a root; 0 for what is none, or not to be seen. */
export function sizeAt(root: string, path: string): number {
  try {
    const stats = lstatSync(`${root}/${path}`, { throwIfNoEntry: false });
    return stats?.isFile() === true ? stats.size : 0;
  } catch {
    return 0;
  }
}

/** Bytes of the files at all of the paths; of everything nothing is known. */
export function sizeOfAll(root: string, paths: DirtyMark['paths']): number {
  if (paths === 'everything') return 0;
  let bytes = 0;
  let count = 0;
  for (const path of paths) {
    if (count === MAX_LOOKED_AT) return Math.ceil((bytes / count) * paths.size);
    bytes += sizeAt(root, path);
    count += 1;
  }
  return bytes;
}

/** True when the paths can be dealt with one by one: not everything, and not the rules of what is left out. */
export function isPlain(paths: DirtyMark['paths']): paths is ReadonlySet<string> {
  return paths !== 'everything' && !paths.has(IGNORE_FILE);
}

const MEMORY_MS = 1_000;

/** How much a list of dirty paths amounts to, looked at once a second at most: a list may be long. */
export class UnsavedSize {
  readonly #root: string;
  readonly #clock: Clock;
  #last = { bytes: 0 as number | null, atMs: -Infinity };

  constructor(root: string, clock: Clock) {
    this.#root = root;
    this.#clock = clock;
  }

  /** @returns null for everything, the size of which nobody knows */
  of(lists: readonly DirtyMark['paths'][]): number | null {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#last.atMs < MEMORY_MS) return this.#last.bytes;
    const isKnown = !lists.includes('everything');
    const bytes = isKnown ? lists.reduce((sum, paths) => sum + sizeOfAll(this.#root, paths), 0) : null;
    this.#last = { bytes, atMs: nowMs };
    return bytes;
  }
}
