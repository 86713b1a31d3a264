import { type FSWatcher, lstatSync, readdirSync, watch } from 'node:fs';
import { setImmediate as letOthersRun } from 'node:timers/promises';
import { systemErrorCode } from '@dumont/shared/util/errors.ts';

/** Entries looked at in one go, some 10 ms. */
const BATCH = 2_048;

export interface FolderWatchOptions {
  readonly root: string;
  /** @param path below the root */
  readonly ignores: (path: string, isDirectory: boolean) => boolean;
  /** Something at this path below the root appeared, changed or went; null when it is not known where. Must not throw. */
  readonly onChange: (path: string | null) => void;
  /** The system cannot watch any more, called once; what is watched no longer tells all. Must not throw. */
  readonly onFailure: (error: unknown) => void;
}

interface Folder {
  /** Below the root, empty for the root itself. */
  readonly path: string;
  readonly watcher: FSWatcher;
  readonly children: Map<string, Folder>;
}

interface FoundFolder {
  readonly path: string;
  /** The one it is in; null for the root. */
  readonly parent: Folder | null;
  /** It appeared while its parent was watched. */
  readonly isNew: boolean;
}

/**
 * Watches a folder and all below it, links not followed. The system's watch on a folder tells of every file in it, so
 * nothing is held for a file: a tree costs one watch and about a kilobyte for each of its folders.
 */
export class FolderWatch implements Disposable {
  readonly #options: FolderWatchOptions;
  #root: Folder | null = null;
  #isOver = false;
  /** Not watched yet. */
  readonly #waiting: FoundFolder[] = [];
  #walk: Promise<void> | null = null;

  constructor(options: FolderWatchOptions) {
    this.#options = options;
  }

  /** Call once. Resolves when all is watched, or watching has failed. What changes meanwhile may go unheard. */
  async start(): Promise<void> {
    this.#waiting.push({ path: '', parent: null, isNew: false });
    await this.#watchWaiting();
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    this.#waiting.length = 0;
    if (this.#root !== null) close(this.#root);
    this.#root = null;
  }

  /** One walk at a time: it takes along what is found while it goes. */
  #watchWaiting(): Promise<void> {
    this.#walk ??= this.#walkWaiting().finally(() => {
      this.#walk = null;
    });
    return this.#walk;
  }

  async #walkWaiting(): Promise<void> {
    let sinceBreak = 0;
    for (let next = this.#waiting.pop(); next !== undefined; next = this.#waiting.pop()) {
      try {
        sinceBreak += this.#watchFolder(next) + 1;
      } catch (error) {
        if (!isGoneOrForbidden(error) || next.parent === null) {
          this.#fail(error);
          return;
        }
      }
      if (sinceBreak < BATCH) continue;
      sinceBreak = 0;
      await letOthersRun();
    }
  }

  /** Watches first and looks second, so that nothing comes to be in between unseen. @returns entries looked at */
  #watchFolder({ path, parent, isNew }: FoundFolder): number {
    const absolute = this.#absolute(path);
    const children = new Map<string, Folder>();
    const watcher = watch(absolute, { persistent: true });
    const folder: Folder = { path, watcher, children };
    watcher.on('change', (event, name) => this.#onEvent(folder, event, name));
    watcher.on('error', (error) => this.#fail(error));
    if (parent === null) this.#root = folder;
    else {
      forget(parent, nameOf(path));
      parent.children.set(nameOf(path), folder);
    }
    const entries = readdirSync(absolute, { withFileTypes: true });
    for (const entry of entries) {
      const child = path === '' ? entry.name : `${path}/${entry.name}`;
      const isDirectory = entry.isDirectory();
      if (!isDirectory && !isNew) continue;
      if (this.#options.ignores(child, isDirectory)) continue;
      if (isDirectory) this.#waiting.push({ path: child, parent: folder, isNew });
      // It may have come between the folder's appearance and its watch.
      if (isNew) this.#options.onChange(child);
    }
    return entries.length;
  }

  #onEvent(folder: Folder, event: string, name: string | Buffer | null): void {
    if (this.#isOver) return;
    if (name === null) {
      this.#options.onChange(null);
      return;
    }
    const text = name.toString();
    const path = folder.path === '' ? text : `${folder.path}/${text}`;
    // Only what came, went or moved is a `rename`; a folder known is still the same one on a `change`.
    const isDirectory = event === 'rename' ? this.#isDirectory(path) : folder.children.has(text);
    if (this.#options.ignores(path, isDirectory)) return;
    this.#options.onChange(path);
    if (event !== 'rename') return;
    // Also when one of that name is watched: it may be another, and numbers of inodes are used again.
    forget(folder, text);
    if (!isDirectory) return;
    this.#waiting.push({ path, parent: folder, isNew: true });
    // Never rejects: what fails goes to onFailure.
    void this.#watchWaiting();
  }

  #isDirectory(path: string): boolean {
    try {
      return lstatSync(this.#absolute(path), { throwIfNoEntry: false })?.isDirectory() ?? false;
    } catch {
      // What cannot be looked at cannot be watched.
      return false;
    }
  }

  #absolute(path: string): string {
    return path === '' ? this.#options.root : `${this.#options.root}/${path}`;
  }

  #fail(error: unknown): void {
    if (this.#isOver) return;
    this[Symbol.dispose]();
    this.#options.onFailure(error);
  }
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

function forget(parent: Folder, name: string): void {
  const child = parent.children.get(name);
  if (child === undefined) return;
  parent.children.delete(name);
  close(child);
}

function close(folder: Folder): void {
  folder.watcher.close();
  for (const child of folder.children.values()) close(child);
  folder.children.clear();
}

/** It went or became something else meanwhile, or is not for us to read: then neither can a snapshot. */
function isGoneOrForbidden(error: unknown): boolean {
  const code = systemErrorCode(error);
  return code === 'ENOENT' || code === 'ENOTDIR' || code === 'EACCES' || code === 'EPERM' || code === 'ELOOP';
}
