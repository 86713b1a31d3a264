import { isUtf8 } from 'node:buffer';
import type { BigIntStats } from 'node:fs';
import {
  chmodSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { basename } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Entry } from '@dumont/shared/format/manifest.ts';
import { DumontError, systemErrorCode, toDumontError } from '@dumont/shared/util/errors.ts';
import { TEMP_FILE_PREFIX, type IgnoreRules } from '../workspace/ignore.ts';
import { applyToPath, hasMetadata, type EntryWithMetadata } from './metadata.ts';
import { temporaryPath, type Place } from './new-file.ts';

type DirEntry = Extract<Entry, { type: 'dir' }>;
type SymlinkEntry = Extract<Entry, { type: 'symlink' }>;
type HardlinkEntry = Extract<Entry, { type: 'hardlink' }>;

/** Entries looked at before others get their turn: about 10 ms. */
const ENTRIES_PER_TURN = 2_000;

/** What lies where entries are to go. */
export interface Survey {
  /** By entry path; absent where nothing usable is. */
  readonly existing: ReadonlyMap<string, BigIntStats>;
  /** Paths where a folder meets something that is no folder, in either direction. */
  readonly conflicts: readonly string[];
}

/**
 * The folder a snapshot is restored into. Entries come with their folders first and every folder is looked at, or made,
 * before anything goes into it, so nothing is ever written through a symlink. It relies on nobody swapping folders for
 * symlinks while it works.
 */
export class TargetFolder {
  readonly #root: string;
  readonly #place: Place;
  readonly #onFlaw: (flaw: string) => void;

  /** @param onFlaw called for every attribute of a folder that could not be set */
  constructor(place: Place, onFlaw: (flaw: string) => void) {
    this.#root = place.root;
    this.#place = place;
    this.#onFlaw = onFlaw;
  }

  absolute(path: string): string {
    return `${this.#root}/${path}`;
  }

  /** Looks, changes nothing. @param entries folders before what they hold */
  async survey(entries: readonly Entry[]): Promise<Survey> {
    const existing = new Map<string, BigIntStats>();
    const conflicts: string[] = [];
    for (const [index, entry] of entries.entries()) {
      if (index % ENTRIES_PER_TURN === ENTRIES_PER_TURN - 1) await nextTurn();
      const slash = entry.path.lastIndexOf('/');
      if (slash !== -1 && existing.get(entry.path.slice(0, slash)) === undefined) continue;
      const stats = this.#look(entry.path);
      if (stats === null) continue;
      if (stats.isDirectory() === (entry.type === 'dir')) existing.set(entry.path, stats);
      else if (stats.isDirectory() || entry.type === 'dir') conflicts.push(entry.path);
      else existing.set(entry.path, stats);
    }
    return { existing, conflicts };
  }

  /** Makes a folder that can be written to for now; {@link finishDir} gives it its mode. */
  makeDir(entry: DirEntry, existing: BigIntStats | undefined): void {
    const path = this.absolute(entry.path);
    try {
      const found = existing ?? this.#makeUnlessThere(entry.path);
      if (found === null || (found.mode & 0o700n) === 0o700n) return;
      chmodSync(path, Number(found.mode & 0o7777n) | 0o700);
    } catch (error) {
      throw toDumontError(error, 'IO', `making the folder ${path}`);
    }
  }

  /** Null when it was made; a survey misses folders inside one that may not be entered. */
  #makeUnlessThere(path: string): BigIntStats | null {
    try {
      mkdirSync(this.absolute(path), 0o700);
      return null;
    } catch (error) {
      const stats = systemErrorCode(error) === 'EEXIST' ? this.#look(path) : null;
      if (stats?.isDirectory() === true) return stats;
      throw error;
    }
  }

  /** Once nothing in the folder changes any more. */
  finishDir(entry: DirEntry): void {
    this.#ensureMetadata(this.absolute(entry.path), entry);
  }

  /** Corrects owner, attributes, mode and time where they differ. */
  #ensureMetadata(path: string, entry: EntryWithMetadata): void {
    try {
      if (hasMetadata(path, lstatSync(path, { bigint: true }), entry, this.#place)) return;
      for (const flaw of applyToPath(path, entry, this.#place)) this.#onFlaw(`${entry.path}: ${flaw}`);
    } catch (error) {
      throw toDumontError(error, 'IO', `setting mode and times of ${path}`);
    }
  }

  makeSymlink(entry: SymlinkEntry): void {
    this.#replace(entry.path, (temporary) => {
      symlinkSync(entry.target, temporary);
      applyToPath(temporary, entry, this.#place);
    });
  }

  /** Nothing happens where the link is already. */
  makeHardlink(entry: HardlinkEntry): void {
    const [from, at] = [this.#look(entry.target), this.#look(entry.path)];
    if (from !== null && at !== null && from.ino === at.ino && from.dev === at.dev) return;
    this.#replace(entry.path, (temporary) => linkSync(this.absolute(entry.target), temporary));
  }

  /**
   * Removes what is not listed, but only what a snapshot could have held: ignored paths, names that are not UTF-8,
   * sockets, pipes and devices stay, and so do the folders they lie in.
   * @returns how many paths were removed
   */
  removeExtras(entries: readonly Entry[], rules: IgnoreRules): number {
    const listed = new Set(entries.map((entry) => entry.path));
    let removed = 0;
    const folders = ['', ...entries.flatMap((entry) => (entry.type === 'dir' ? [entry.path] : []))];
    for (const folder of folders) {
      for (const path of this.#children(folder)) {
        if (!listed.has(path)) removed += this.remove(path, rules);
      }
    }
    return removed;
  }

  /** Removes one path as {@link removeExtras} would. */
  remove(path: string, rules: IgnoreRules): number {
    const stats = this.#look(path);
    if (stats === null) return 0;
    const isTemporary = basename(path).startsWith(TEMP_FILE_PREFIX) && stats.isFile();
    if (!isTemporary && rules.ignores(path, stats.isDirectory())) return 0;
    try {
      if (stats.isFile() || stats.isSymbolicLink()) {
        rmSync(this.absolute(path), { force: true });
        return 1;
      }
      if (!stats.isDirectory()) return 0;
      let removed = 0;
      for (const child of this.#children(path)) removed += this.remove(child, rules);
      return removed + (this.#removeIfEmpty(path) ? 1 : 0);
    } catch (error) {
      throw toDumontError(error, 'IO', `removing ${this.absolute(path)}`);
    }
  }

  #removeIfEmpty(path: string): boolean {
    try {
      rmdirSync(this.absolute(path));
      return true;
    } catch (error) {
      if (systemErrorCode(error) === 'ENOTEMPTY') return false;
      throw error;
    }
  }

  #children(folder: string): readonly string[] {
    try {
      const names = readdirSync(folder === '' ? this.#root : this.absolute(folder), { encoding: 'buffer' });
      const usable = names.filter((name) => isUtf8(name)).map((name) => name.toString('utf8'));
      return usable.map((name) => (folder === '' ? name : `${folder}/${name}`));
    } catch (error) {
      throw toDumontError(error, 'IO', `reading ${this.absolute(folder)}`);
    }
  }

  /** Puts something over whatever has the name, in one step. */
  #replace(path: string, make: (temporary: string) => void): void {
    const final = this.absolute(path);
    const temporary = temporaryPath(this.#root, path);
    try {
      rmSync(temporary, { force: true });
      make(temporary);
      renameSync(temporary, final);
    } catch (error) {
      throw toDumontError(error, 'IO', `restoring ${final}`);
    }
  }

  #look(path: string): BigIntStats | null {
    try {
      return lstatSync(this.absolute(path), { bigint: true, throwIfNoEntry: false }) ?? null;
    } catch (error) {
      const code = systemErrorCode(error);
      if (code === 'ENOTDIR' || code === 'EACCES') return null;
      throw new DumontError('IO', `looking at ${this.absolute(path)}: ${String(error)}`, { cause: error });
    }
  }
}
