import { lstatSync } from 'node:fs';
import type { DirtyMark } from '../workspace/dirty-set.ts';
import { IGNORE_FILE } from '../workspace/ignore.ts';

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
