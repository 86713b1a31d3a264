import { isUtf8 } from 'node:buffer';
import type { BigIntStats } from 'node:fs';
import { lstat, readdir, readlink } from 'node:fs/promises';
import { MAX_ENTRIES } from '@dumont/shared/format/manifest.ts';
import { DumontError, systemErrorCode, toDumontError } from '@dumont/shared/util/errors.ts';
import { throwIfAborted } from '../storage/object-store.ts';
import type { IgnoreRules } from './ignore.ts';

/** Enough to keep the thread pool busy while one folder is looked at. */
const STAT_BATCH = 64;

export interface ScannedEntry {
  /** Relative to the root, `/` between names. */
  readonly path: string;
  readonly type: 'file' | 'dir' | 'symlink';
  /** Of the entry itself, links not followed. */
  readonly stats: BigIntStats;
  /** Of a symlink; empty otherwise. */
  readonly linkTarget: string;
}

/** Something the walk met and cannot put into a snapshot. */
export interface SkippedPath {
  /** Bytes that are not UTF-8 appear as U+FFFD. */
  readonly path: string;
  /** `special`: a socket, pipe or device, which has no content; the others are data left out. */
  readonly kind: 'special' | 'unreadable' | 'bad-name';
  readonly reason: string;
}

export interface ScanResult {
  /** Ascending by path: a folder comes before what it holds. */
  readonly entries: readonly ScannedEntry[];
  readonly skipped: readonly SkippedPath[];
}

/**
 * Walks a folder without following symlinks. Ignored folders are not entered; what vanishes meanwhile is left out.
 * @throws {DumontError} IO when the folder itself cannot be read, LIMIT above MAX_ENTRIES, ABORTED
 */
export async function scanWorkspace(
  root: string,
  rules: IgnoreRules,
  options: { readonly signal?: AbortSignal | undefined } = {},
): Promise<ScanResult> {
  const entries: ScannedEntry[] = [];
  const skipped: SkippedPath[] = [];
  const folders = [''];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    const names = await readNames(root, folder, skipped);
    for (let start = 0; start < names.length; start += STAT_BATCH) {
      throwIfAborted(options.signal);
      const batch = names.slice(start, start + STAT_BATCH);
      const found = await Promise.all(batch.map((name) => examine(root, childPath(folder, name), rules)));
      for (const item of found) {
        if (item === null) continue;
        if ('kind' in item) {
          skipped.push(item);
          continue;
        }
        entries.push(item);
        if (item.type === 'dir') folders.push(item.path);
      }
      if (entries.length > MAX_ENTRIES) {
        throw new DumontError('LIMIT', `${root} holds more than ${MAX_ENTRIES} entries`, {
          hint: 'Exclude folders with many small files through .dumontignore.',
        });
      }
    }
  }
  return { entries: entries.sort((a, b) => (a.path < b.path ? -1 : 1)), skipped };
}

/** The two stats show the same, untouched file. Changing a file's times back does not change its ctime back. Pure. */
export function sameFileState(a: FileState, b: FileState): boolean {
  return a.size === b.size && a.mtimeNs === b.mtimeNs && a.ctimeNs === b.ctimeNs && a.ino === b.ino && a.dev === b.dev;
}

/** What tells that a file was not touched. */
export type FileState = Pick<BigIntStats, 'size' | 'mtimeNs' | 'ctimeNs' | 'ino' | 'dev'>;

/**
 * True when a write after the moment `nowMs` could leave the file's times as they are, because file times move in
 * ticks: of 10 ms at most on Linux, of up to 2 s where no fraction of a second is stored. Pure.
 */
export function isWithinTick(state: FileState, nowMs: number): boolean {
  const tickMs = state.ctimeNs % 1_000_000_000n === 0n ? 2_000 : 20;
  return nowMs - Number(state.ctimeNs / 1_000_000n) <= tickMs;
}

function childPath(folder: string, name: string): string {
  return folder === '' ? name : `${folder}/${name}`;
}

async function readNames(root: string, folder: string, skipped: SkippedPath[]): Promise<readonly string[]> {
  let names: readonly Buffer[];
  try {
    names = await readdir(folder === '' ? root : `${root}/${folder}`, { encoding: 'buffer' });
  } catch (error) {
    if (folder === '') throw toDumontError(error, 'IO', `reading ${root}`);
    if (!isGone(error)) skipped.push(unreadable(folder, error));
    return [];
  }
  const usable: string[] = [];
  for (const name of names) {
    const text = name.toString('utf8');
    if (isUtf8(name)) usable.push(text);
    else skipped.push({ path: childPath(folder, text), kind: 'bad-name', reason: 'its name is not UTF-8' });
  }
  return usable;
}

async function examine(root: string, path: string, rules: IgnoreRules): Promise<ScannedEntry | SkippedPath | null> {
  try {
    const stats = await lstat(`${root}/${path}`, { bigint: true });
    if (rules.ignores(path, stats.isDirectory())) return null;
    if (stats.isFile()) return { path, type: 'file', stats, linkTarget: '' };
    if (stats.isDirectory()) return { path, type: 'dir', stats, linkTarget: '' };
    if (!stats.isSymbolicLink()) return { path, kind: 'special', reason: 'it is a socket, pipe or device' };
    const target = await readlink(`${root}/${path}`, { encoding: 'buffer' });
    if (!isUtf8(target)) return { path, kind: 'bad-name', reason: 'its target is not UTF-8' };
    return { path, type: 'symlink', stats, linkTarget: target.toString('utf8') };
  } catch (error) {
    return isGone(error) ? null : unreadable(path, error);
  }
}

function unreadable(path: string, error: unknown): SkippedPath {
  return { path, kind: 'unreadable', reason: systemErrorCode(error) ?? String(error) };
}

/** It vanished, or became something else, between two looks. */
function isGone(error: unknown): boolean {
  const code = systemErrorCode(error);
  return code === 'ENOENT' || code === 'ENOTDIR' || code === 'EINVAL';
}
