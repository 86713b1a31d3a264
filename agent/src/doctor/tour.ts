import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { systemErrorCode } from '@dumont/shared/util/errors.ts';
import { loadIgnoreRules, type IgnoreRules } from '../workspace/ignore.ts';

/** An estimate is what the doctor wants: a workspace of a million files must not hold it up. */
const MAX_TOUR_MS = 3_000;
const MAX_EXAMPLES = 3;

/** What a first walk through the workspace shows. */
export interface Tour {
  /** Why it could not begin; null when it did. */
  readonly problem: string | null;
  /** False when the time was up first: the counts are lower bounds. */
  readonly isComplete: boolean;
  readonly folderCount: number;
  readonly fileCount: number;
  readonly totalBytes: number;
  /** Sockets, pipes and devices. */
  readonly specialCount: number;
  readonly unreadableCount: number;
  /** Some that are special or unreadable. */
  readonly examples: readonly string[];
}

/** Counts what the agent would look at, as far as it comes within the time. Never throws. */
export async function tourWorkspace(root: string, clock: Clock): Promise<Tour> {
  const seen = { folderCount: 0, fileCount: 0, totalBytes: 0, specialCount: 0, unreadableCount: 0 };
  const examples: string[] = [];
  const untilMs = clock.monotonicMs() + MAX_TOUR_MS;
  const note = (path: string) => {
    if (examples.length < MAX_EXAMPLES) examples.push(path);
  };
  try {
    // Broken rules are a check of their own; here everything counts then.
    const rules: IgnoreRules = await loadIgnoreRules(root).catch(() => ({ ignores: () => false }));
    const waiting = [''];
    for (let folder = waiting.pop(); folder !== undefined; folder = waiting.pop()) {
      if (clock.monotonicMs() > untilMs) return { problem: null, isComplete: false, ...seen, examples };
      const entries = await readdir(join(root, folder), { withFileTypes: true }).catch((error: unknown) => {
        if (folder === '') throw error;
        seen.unreadableCount += 1;
        note(folder);
        return [];
      });
      seen.folderCount += 1;
      for (const entry of entries) {
        const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
        if (rules.ignores(path, entry.isDirectory())) continue;
        if (entry.isDirectory()) waiting.push(path);
        else if (entry.isFile()) {
          seen.fileCount += 1;
          seen.totalBytes += (await lstat(join(root, path)).catch(() => null))?.size ?? 0;
        } else if (!entry.isSymbolicLink()) {
          seen.specialCount += 1;
          note(path);
        }
      }
    }
    return { problem: null, isComplete: true, ...seen, examples };
  } catch (error) {
    return { problem: systemErrorCode(error) ?? String(error), isComplete: false, ...seen, examples };
  }
}
