import { isUtf8 } from 'node:buffer';
import { lstatSync, readdirSync, readlinkSync, type BigIntStats } from 'node:fs';
import { setImmediate as letOthersRun } from 'node:timers/promises';
import { MAX_ENTRIES } from '@dumont/shared/format/limits.ts';
import { DumontError, systemErrorCode, toDumontError } from '@dumont/shared/util/errors.ts';
import { throwIfAborted } from '../storage/object-store.ts';
import type { IgnoreRules } from './ignore.ts';

/** Looked at in one go, some 10 ms: synchronous calls take a sixth of the time of asynchronous ones. */
const BATCH = 2_048;

/** What tells that a file was not touched. */
export type FileState = Pick<BigIntStats, 'size' | 'mtimeNs' | 'ctimeNs' | 'ino' | 'dev'>;

/** One path of a tree as it was found, links not followed. */
export interface ScannedEntry extends FileState {
  /** Relative to the root, `/` between names. */
  readonly path: string;
  readonly type: 'file' | 'dir' | 'symlink';
  /** Permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** How many names its inode has. */
  readonly linkCount: number;
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

interface ScanOptions {
  readonly signal?: AbortSignal | undefined;
  /** Looks only below this folder, which is itself not part of the result; the root when absent. */
  readonly below?: string | undefined;
}

/**
 * Walks a folder without following symlinks. Ignored folders are not entered; what vanishes meanwhile is left out. Holds
 * the thread for some milliseconds at a time.
 * @throws {DumontError} IO when the root itself cannot be read, LIMIT above MAX_ENTRIES, ABORTED
 */
export async function scanWorkspace(root: string, rules: IgnoreRules, options: ScanOptions = {}): Promise<ScanResult> {
  const entries: ScannedEntry[] = [];
  const skipped: SkippedPath[] = [];
  /** What comes next, last first: an entry, or the folder whose content is to be looked at. */
  const waiting: (ScannedEntry | string)[] = [options.below ?? ''];
  let sinceBreak = 0;
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    if (typeof next !== 'string') {
      entries.push(next);
      continue;
    }
    const found = lookInto(root, next, { rules, skipped });
    for (let index = found.length - 1; index >= 0; index -= 1) waiting.push(found[index]?.item ?? '');
    sinceBreak += found.length + 1;
    if (entries.length + waiting.length > 2 * MAX_ENTRIES || entries.length > MAX_ENTRIES) {
      throw new DumontError('LIMIT', `${root} holds more than ${MAX_ENTRIES} entries`, {
        hint: 'Exclude folders with many small files through .dumontignore.',
      });
    }
    if (sinceBreak < BATCH) continue;
    sinceBreak = 0;
    await letOthersRun();
    throwIfAborted(options.signal);
  }
  return { entries, skipped };
}

/**
 * What lies at a path: null when nothing does or it is ignored.
 * @param path relative to the root; the folders above it are the caller's concern
 */
export function examine(root: string, path: string, rules: IgnoreRules): ScannedEntry | SkippedPath | null {
  try {
    const stats = lstatSync(`${root}/${path}`, { bigint: true, throwIfNoEntry: false });
    if (stats === undefined) return null;
    const isDirectory = stats.isDirectory();
    if (rules.ignores(path, isDirectory)) return null;
    if (isDirectory) return entryOf(path, 'dir', stats);
    if (stats.isFile()) return entryOf(path, 'file', stats);
    if (!stats.isSymbolicLink()) return { path, kind: 'special', reason: 'it is a socket, pipe or device' };
    const target = readlinkSync(`${root}/${path}`, { encoding: 'buffer' });
    if (!isUtf8(target)) return { path, kind: 'bad-name', reason: 'its target is not UTF-8' };
    return { ...entryOf(path, 'symlink', stats), linkTarget: target.toString('utf8') };
  } catch (error) {
    return isGone(error) ? null : unreadable(path, error);
  }
}

/** The two stats show the same, untouched file. Changing a file's times back does not change its ctime back. Pure. */
export function sameFileState(a: FileState, b: FileState): boolean {
  return a.size === b.size && a.mtimeNs === b.mtimeNs && a.ctimeNs === b.ctimeNs && a.ino === b.ino && a.dev === b.dev;
}

/**
 * True when a write after the moment `nowMs` could leave the file's times as they are, because file times move in
 * ticks: of 10 ms at most on Linux, of up to 2 s where no fraction of a second is stored. Pure.
 */
export function isWithinTick(state: Pick<FileState, 'ctimeNs'>, nowMs: number): boolean {
  const tickMs = state.ctimeNs % 1_000_000_000n === 0n ? 2_000 : 20;
  return nowMs - Number(state.ctimeNs / 1_000_000n) <= tickMs;
}

/** Only what is needed of the stats: they are five times as large. */
function entryOf(path: string, type: ScannedEntry['type'], stats: BigIntStats): ScannedEntry {
  const { size, mtimeNs, ctimeNs, ino, dev } = stats;
  return {
    path,
    type,
    mode: Number(stats.mode) & 0o7777,
    uid: Number(stats.uid),
    gid: Number(stats.gid),
    linkCount: Number(stats.nlink),
    linkTarget: '',
    size,
    mtimeNs,
    ctimeNs,
    ino,
    dev,
  };
}

/**
 * The entries of one folder, and after each sub-folder's entry the folder to look into, in the order of whole paths:
 * what lies in `a` follows `a!` and comes before `a0`, because `/` does.
 */
function lookInto(
  root: string,
  folder: string,
  { rules, skipped }: { readonly rules: IgnoreRules; readonly skipped: SkippedPath[] },
): readonly { readonly key: string; readonly item: ScannedEntry | string }[] {
  const found: { key: string; item: ScannedEntry | string }[] = [];
  for (const name of readNames(root, folder, skipped)) {
    const item = examine(root, childPath(folder, name), rules);
    if (item === null) continue;
    if ('kind' in item) {
      skipped.push(item);
      continue;
    }
    found.push({ key: name, item });
    if (item.type === 'dir') found.push({ key: `${name}/`, item: item.path });
  }
  return found.sort((a, b) => (a.key < b.key ? -1 : 1));
}

function childPath(folder: string, name: string): string {
  return folder === '' ? name : `${folder}/${name}`;
}

function readNames(root: string, folder: string, skipped: SkippedPath[]): readonly string[] {
  const path = folder === '' ? root : `${root}/${folder}`;
  try {
    const names = readdirSync(path);
    // The replacement character may stand for bytes that are no UTF-8; it may also be in the name.
    return names.some((name) => name.includes('\uFFFD')) ? readExactNames(path, folder, skipped) : names;
  } catch (error) {
    if (folder === '') throw toDumontError(error, 'IO', `reading ${root}`);
    if (!isGone(error)) skipped.push(unreadable(folder, error));
    return [];
  }
}

function readExactNames(path: string, folder: string, skipped: SkippedPath[]): readonly string[] {
  const usable: string[] = [];
  for (const name of readdirSync(path, { encoding: 'buffer' })) {
    const text = name.toString('utf8');
    if (isUtf8(name)) usable.push(text);
    else skipped.push({ path: childPath(folder, text), kind: 'bad-name', reason: 'its name is not UTF-8' });
  }
  return usable;
}

function unreadable(path: string, error: unknown): SkippedPath {
  return { path, kind: 'unreadable', reason: systemErrorCode(error) ?? String(error) };
}

/** It vanished, or became something else, between two looks. */
function isGone(error: unknown): boolean {
  const code = systemErrorCode(error);
  return code === 'ENOENT' || code === 'ENOTDIR' || code === 'EINVAL';
}
