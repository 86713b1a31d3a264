import { matchesGlob } from 'node:path';
import ignore from 'ignore';
import type { Entry } from '@dumont/shared/format/manifest.ts';
import { must } from '@dumont/shared/util/assert.ts';

/** Files up to this size come before larger ones: there are many of them, and a program needs most to start. */
const SMALL_FILE_BYTES = 256 * 1024;

/** When a path is restored: what was asked for first, then small files, then the rest. */
export const STAGES = ['priority', 'small', 'large'] as const;
export type Stage = (typeof STAGES)[number];

/**
 * The entries to restore: those whose path, or a folder above it, matches `include` (a glob, a path, or a set of paths),
 * and the folders that lead to them; all of them without `include`. A hard link to a file that is left out becomes that file. Pure.
 */
export function selectEntries(
  entries: readonly Entry[],
  include: string | ReadonlySet<string> | undefined,
): readonly Entry[] {
  if (include === undefined) return entries;
  const isMeant =
    typeof include === 'string'
      ? (path: string) => path === include || matchesGlob(path, include)
      : (path: string) => include.has(path);
  const matched = new Set<string>();
  const needed = new Set<string>();
  for (const { path } of entries) {
    const slash = path.lastIndexOf('/');
    const isBelow = slash !== -1 && matched.has(path.slice(0, slash));
    if (!isBelow && !isMeant(path)) continue;
    matched.add(path);
    for (let end = path.length; end > 0; end = path.lastIndexOf('/', end - 1)) needed.add(path.slice(0, end));
  }
  const files = new Map(entries.flatMap((entry) => (entry.type === 'file' ? [[entry.path, entry] as const] : [])));
  const standIns = new Map<string, string>();
  return entries.flatMap((entry): readonly Entry[] => {
    if (!needed.has(entry.path)) return [];
    if (entry.type !== 'hardlink' || needed.has(entry.target)) return [entry];
    const standIn = standIns.get(entry.target);
    if (standIn !== undefined) return [{ ...entry, target: standIn }];
    standIns.set(entry.target, entry.path);
    return [{ ...must(files.get(entry.target), 'a checked manifest links to files only'), path: entry.path }];
  });
}

/** Where an entry stands in the order of restoring; lower comes first. */
export interface Turn {
  readonly stage: Stage;
  /** Within the stage; unique among files. */
  readonly rank: number;
}

/**
 * The turn of every file, symlink and hard link: what the patterns (gitignore syntax, those named first before the
 * others) match, then files of up to 256 KiB, then the rest, each in path order. A file that a matching hard link leads
 * to comes with it. Pure.
 */
export function orderEntries(entries: readonly Entry[], patterns: readonly string[]): ReadonlyMap<string, Turn> {
  const patternOf = patternFinder(patterns);
  const promoted = new Map<string, number>();
  for (const entry of entries) {
    if (entry.type === 'dir') continue;
    const pattern = patternOf(entry.path);
    if (pattern === null) continue;
    for (const path of entry.type === 'hardlink' ? [entry.path, entry.target] : [entry.path]) {
      promoted.set(path, Math.min(promoted.get(path) ?? pattern, pattern));
    }
  }
  const turns = new Map<string, Turn>();
  for (const [index, entry] of entries.entries()) {
    if (entry.type === 'dir') continue;
    const pattern = promoted.get(entry.path);
    const isSmall = entry.type !== 'file' || entry.size <= SMALL_FILE_BYTES;
    turns.set(
      entry.path,
      pattern === undefined
        ? { stage: isSmall ? 'small' : 'large', rank: index }
        : { stage: 'priority', rank: pattern * entries.length + index },
    );
  }
  return turns;
}

/** Gives the position of the first pattern that matches a path, null when they leave it out as a whole. */
function patternFinder(patterns: readonly string[]): (path: string) => number | null {
  if (patterns.length === 0) return () => null;
  // Without `ignorecase: false` the pattern `data` would also match `Data`.
  const all = ignore({ ignorecase: false }).add([...patterns]);
  const each = patterns.map((pattern) => ignore({ ignorecase: false }).add(pattern));
  return (path) => {
    if (!all.ignores(path)) return null;
    return Math.max(
      0,
      each.findIndex((one) => one.ignores(path)),
    );
  };
}
