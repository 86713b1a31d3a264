import { join } from 'node:path';
import { MAX_PRIORITY_PATTERN_LENGTH, MAX_PRIORITY_PATTERNS } from '@dumont/shared/format/limits.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { readRuleFile } from './ignore.ts';

/** In the workspace folder: what a restore brings back first, in gitignore syntax, most important first. */
const PRIORITY_FILE = '.dumontpriority';

/**
 * The patterns of the priority file, without comments; empty when there is none.
 * @throws {DumontError} IO when it exists and cannot be read, LIMIT when it has too many or too long ones
 */
export async function loadPriority(root: string): Promise<readonly string[]> {
  const path = join(root, PRIORITY_FILE);
  const lines = (await readRuleFile(path)).split(/\r?\n/);
  const patterns = lines.filter((line) => line.trim() !== '' && !line.startsWith('#'));
  if (patterns.length > MAX_PRIORITY_PATTERNS || patterns.some((one) => one.length > MAX_PRIORITY_PATTERN_LENGTH)) {
    throw new DumontError('LIMIT', `${path} has more than ${MAX_PRIORITY_PATTERNS} patterns, or a very long one`);
  }
  return patterns;
}

/** The same patterns in the same order. Pure. */
export function isSamePriority(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((one, index) => one === b[index]);
}
