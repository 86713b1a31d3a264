import { isUtf8 } from 'node:buffer';
import type { BigIntStats } from 'node:fs';
import { chmod, link, lstat, mkdir, readdir, rename, rm, rmdir, symlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Entry } from '@dumont/shared/format/manifest.ts';
import { DumontError, systemErrorCode, toDumontError } from '@dumont/shared/util/errors.ts';
import { hashHex } from '../snapshot/chunk-codec.ts';
import { TEMP_FILE_PREFIX, type IgnoreRules } from '../workspace/ignore.ts';
import { applyMetadata, hasMetadata, type EntryWithMetadata } from './metadata.ts';

type DirEntry = Extract<Entry, { type: 'dir' }>;
type SymlinkEntry = Extract<Entry, { type: 'symlink' }>;
type HardlinkEntry = Extract<Entry, { type: 'hardlink' }>;

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

  /** @param root absolute and free of symlinks */
  constructor(root: string) {
    this.#root = root;
  }

  absolute(path: string): string {
    return `${this.#root}/${path}`;
  }

  /** Looks, changes nothing. @param entries folders before what they hold */
  async survey(entries: readonly Entry[]): Promise<Survey> {
    const existing = new Map<string, BigIntStats>();
    const conflicts: string[] = [];
    for (const entry of entries) {
      const slash = entry.path.lastIndexOf('/');
      if (slash !== -1 && existing.get(entry.path.slice(0, slash)) === undefined) continue;
      const stats = await this.#look(entry.path);
      if (stats === null) continue;
      if (stats.isDirectory() === (entry.type === 'dir')) existing.set(entry.path, stats);
      else if (stats.isDirectory() || entry.type === 'dir') conflicts.push(entry.path);
      else existing.set(entry.path, stats);
    }
    return { existing, conflicts };
  }

  /** Makes a folder that can be written to for now; {@link finishDir} gives it its mode. */
  async makeDir(entry: DirEntry, existing: BigIntStats | undefined): Promise<void> {
    const path = this.absolute(entry.path);
    try {
      const found = existing ?? (await this.#makeUnlessThere(entry.path));
      if (found === null || (found.mode & 0o700n) === 0o700n) return;
      await chmod(path, Number(found.mode & 0o7777n) | 0o700);
    } catch (error) {
      throw toDumontError(error, 'IO', `making the folder ${path}`);
    }
  }

  /** Null when it was made; a survey misses folders inside one that may not be entered. */
  async #makeUnlessThere(path: string): Promise<BigIntStats | null> {
    try {
      await mkdir(this.absolute(path), 0o700);
      return null;
    } catch (error) {
      const stats = systemErrorCode(error) === 'EEXIST' ? await this.#look(path) : null;
      if (stats?.isDirectory() === true) return stats;
      throw error;
    }
  }

  /** Once nothing in the folder changes any more. */
  async finishDir(entry: DirEntry): Promise<void> {
    await this.ensureMetadata(entry);
  }

  /** Corrects owner, mode and time where they differ. */
  async ensureMetadata(entry: EntryWithMetadata): Promise<void> {
    const path = this.absolute(entry.path);
    try {
      if (!hasMetadata(await lstat(path, { bigint: true }), entry)) await applyMetadata(path, entry);
    } catch (error) {
      throw toDumontError(error, 'IO', `setting mode and times of ${path}`);
    }
  }

  async makeSymlink(entry: SymlinkEntry): Promise<void> {
    await this.#replace(entry.path, async (temporary) => {
      await symlink(entry.target, temporary);
      await applyMetadata(temporary, entry);
    });
  }

  /** Nothing happens where the link is already. */
  async makeHardlink(entry: HardlinkEntry): Promise<void> {
    const [from, at] = await Promise.all([this.#look(entry.target), this.#look(entry.path)]);
    if (from !== null && at !== null && from.ino === at.ino && from.dev === at.dev) return;
    await this.#replace(entry.path, (temporary) => link(this.absolute(entry.target), temporary));
  }

  /**
   * Removes what is not listed, but only what a snapshot could have held: ignored paths, names that are not UTF-8,
   * sockets, pipes and devices stay, and so do the folders they lie in.
   * @returns how many paths were removed
   */
  async removeExtras(entries: readonly Entry[], rules: IgnoreRules): Promise<number> {
    const listed = new Set(entries.map((entry) => entry.path));
    let removed = 0;
    const folders = ['', ...entries.flatMap((entry) => (entry.type === 'dir' ? [entry.path] : []))];
    for (const folder of folders) {
      for (const path of await this.#children(folder)) {
        if (!listed.has(path)) removed += await this.remove(path, rules);
      }
    }
    return removed;
  }

  /** Removes one path as {@link removeExtras} would. */
  async remove(path: string, rules: IgnoreRules): Promise<number> {
    const stats = await this.#look(path);
    if (stats === null) return 0;
    const isTemporary = basename(path).startsWith(TEMP_FILE_PREFIX) && stats.isFile();
    if (!isTemporary && rules.ignores(path, stats.isDirectory())) return 0;
    try {
      if (stats.isFile() || stats.isSymbolicLink()) {
        await rm(this.absolute(path), { force: true });
        return 1;
      }
      if (!stats.isDirectory()) return 0;
      let removed = 0;
      for (const child of await this.#children(path)) removed += await this.remove(child, rules);
      return removed + ((await this.#removeIfEmpty(path)) ? 1 : 0);
    } catch (error) {
      throw toDumontError(error, 'IO', `removing ${this.absolute(path)}`);
    }
  }

  async #removeIfEmpty(path: string): Promise<boolean> {
    try {
      await rmdir(this.absolute(path));
      return true;
    } catch (error) {
      if (systemErrorCode(error) === 'ENOTEMPTY') return false;
      throw error;
    }
  }

  async #children(folder: string): Promise<readonly string[]> {
    try {
      const names = await readdir(folder === '' ? this.#root : this.absolute(folder), { encoding: 'buffer' });
      const usable = names.filter((name) => isUtf8(name)).map((name) => name.toString('utf8'));
      return usable.map((name) => (folder === '' ? name : `${folder}/${name}`));
    } catch (error) {
      throw toDumontError(error, 'IO', `reading ${this.absolute(folder)}`);
    }
  }

  /** Puts something over whatever has the name, in one step. */
  async #replace(path: string, make: (temporary: string) => Promise<void>): Promise<void> {
    const final = this.absolute(path);
    const name = TEMP_FILE_PREFIX + hashHex(new TextEncoder().encode(path)).slice(0, 24);
    const temporary = join(dirname(final), name);
    try {
      await rm(temporary, { force: true });
      await make(temporary);
      await rename(temporary, final);
    } catch (error) {
      throw toDumontError(error, 'IO', `restoring ${final}`);
    }
  }

  async #look(path: string): Promise<BigIntStats | null> {
    try {
      return await lstat(this.absolute(path), { bigint: true });
    } catch (error) {
      const code = systemErrorCode(error);
      if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EACCES') return null;
      throw new DumontError('IO', `looking at ${this.absolute(path)}: ${String(error)}`, { cause: error });
    }
  }
}
