import { type FSWatcher, lstatSync, readdirSync, watch } from 'node:fs';
import { setImmediate as letOthersRun } from 'node:timers/promises';
import { systemErrorCode } from '@dumont/shared/util/errors.ts';

/** Folders looked into before others get their turn. */
const FOLDERS_PER_TURN = 64;

export interface FolderWatchOptions {
  readonly root: string;
  /** Paths that are not watched, relative to the root. */
  readonly ignores: (path: string, isDirectory: boolean) => boolean;
  /** Something happened to the path: its content, its metadata, or its being there. '' for the root. */
  readonly onChange: (path: string) => void;
  /** The system cannot watch; called once at most. */
  readonly onError: (error: unknown) => void;
}

interface Watched {
  readonly watcher: FSWatcher;
  readonly ino: bigint;
}

/**
 * Watches a folder and all below it with one watch for each folder, whose events name what changed in it: a tree of 100,000
 * files in a thousand folders costs a thousand watches. Reports too much rather than too little: everything in a folder that
 * is new, and every event the kernel has.
 */
export class FolderWatch implements Disposable {
  readonly #options: FolderWatchOptions;
  readonly #watched = new Map<string, Watched>();
  #isOver = false;

  constructor(options: FolderWatchOptions) {
    this.#options = options;
  }

  /** Watches what is there. Resolves when all of it is watched, or watching failed. */
  async start(): Promise<void> {
    const waiting = [''];
    let looked = 0;
    for (let folder = waiting.pop(); folder !== undefined && !this.#isOver; folder = waiting.pop()) {
      for (const path of this.#watchFolder(folder)) waiting.push(path);
      looked += 1;
      if (looked % FOLDERS_PER_TURN === 0) await letOthersRun();
    }
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    for (const { watcher } of this.#watched.values()) watcher.close();
    this.#watched.clear();
  }

  /** Watches one folder, unless it is watched. @returns the folders in it */
  #watchFolder(folder: string): readonly string[] {
    const path = this.#absolute(folder);
    try {
      const { ino } = lstatSync(path, { bigint: true });
      if (this.#watched.get(folder)?.ino !== ino) {
        this.#watched.get(folder)?.watcher.close();
        // Before its names are read, so that nothing comes between.
        const watcher = watch(path, { encoding: 'utf8' }, (_event, name) => this.#onEvent(folder, name));
        watcher.on('error', (error) => this.#fail(error));
        this.#watched.set(folder, { watcher, ino });
      }
      const found = readdirSync(path, { withFileTypes: true });
      return found
        .filter((one) => one.isDirectory() && !this.#options.ignores(childOf(folder, one.name), true))
        .map((one) => childOf(folder, one.name));
    } catch (error) {
      const code = systemErrorCode(error);
      // Gone again, or not ours to read: a scan tells of it.
      const isPassing = code === 'ENOENT' || code === 'ENOTDIR' || code === 'EACCES' || code === 'EPERM';
      if (!isPassing || folder === '') this.#fail(error);
      return [];
    }
  }

  #onEvent(folder: string, name: string | null): void {
    if (this.#isOver) return;
    const path = name === null ? folder : childOf(folder, name);
    const kind = name === null ? 'file' : this.#kindOf(path);
    if (this.#options.ignores(path, kind === 'folder')) return;
    this.#options.onChange(path);
    if (kind === 'folder') this.#enter(path);
    else this.#leave(path);
  }

  /** Watches a folder that may be new, with all in it, and tells of all of it. */
  #enter(path: string): void {
    const known = this.#watched.get(path);
    if (known !== undefined && known.ino === this.#inodeOf(path)) return;
    const waiting = [path];
    for (let folder = waiting.pop(); folder !== undefined && !this.#isOver; folder = waiting.pop()) {
      for (const child of this.#watchFolder(folder)) waiting.push(child);
      for (const child of this.#namesIn(folder)) this.#options.onChange(child);
    }
  }

  /** Ends watches of a folder that is no more. */
  #leave(path: string): void {
    if (!this.#watched.has(path)) return;
    for (const [folder, { watcher }] of this.#watched) {
      if (folder !== path && !folder.startsWith(`${path}/`)) continue;
      watcher.close();
      this.#watched.delete(folder);
    }
  }

  #namesIn(folder: string): readonly string[] {
    try {
      const names = readdirSync(this.#absolute(folder));
      return names.map((name) => childOf(folder, name)).filter((path) => !this.#options.ignores(path, false));
    } catch {
      return [];
    }
  }

  #kindOf(path: string): 'folder' | 'file' {
    try {
      const stats = lstatSync(this.#absolute(path), { throwIfNoEntry: false });
      return stats?.isDirectory() === true ? 'folder' : 'file';
    } catch {
      return 'file';
    }
  }

  #inodeOf(path: string): bigint | undefined {
    try {
      return lstatSync(this.#absolute(path), { bigint: true, throwIfNoEntry: false })?.ino;
    } catch {
      return undefined;
    }
  }

  #absolute(path: string): string {
    return path === '' ? this.#options.root : `${this.#options.root}/${path}`;
  }

  #fail(error: unknown): void {
    if (this.#isOver) return;
    this[Symbol.dispose]();
    this.#options.onError(error);
  }
}

function childOf(folder: string, name: string): string {
  return folder === '' ? name : `${folder}/${name}`;
}
