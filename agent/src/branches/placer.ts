import type { BigIntStats } from 'node:fs';
import { linkSync, lstatSync, mkdirSync, renameSync, rmdirSync, rmSync } from 'node:fs';
import type { Entry } from '@dumont/shared/format/manifest.ts';
import type { MergeStrategy } from '@dumont/shared/model/branch.ts';
import type { BranchId } from '@dumont/shared/model/ids.ts';
import type { MergedPath } from '@dumont/shared/protocol/branch.ts';
import { assertNever, must } from '@dumont/shared/util/assert.ts';
import { systemErrorCode, toDumontError } from '@dumont/shared/util/errors.ts';
import { applyToPath, type MetadataOptions } from '../restore/metadata.ts';
import { isSameTime } from '../snapshot/draft.ts';
import { actionInConflict, type MergeStep } from './plan-merge.ts';
import type { Tree, TreeNode } from './tree.ts';

/** Longest name of a file, bytes. */
const MAX_NAME_BYTES = 255;

type DirEntry = Extract<Entry, { type: 'dir' }>;

export interface PlacerOptions extends MetadataOptions {
  /** The workspace folder, absolute and free of symlinks. */
  readonly root: string;
  /** Where the branch's files lie, whole and checked, in the same file system. */
  readonly staging: string;
  readonly branchId: BranchId;
  readonly branch: Tree;
  readonly dirs: ReadonlyMap<string, DirEntry>;
  /** The workspace as the plan saw it. */
  readonly workspace: Tree;
  readonly strategy: MergeStrategy;
}

/**
 * Carries out a merge's steps in a folder in which others may be writing: what is not as the plan saw it counts as
 * changed by both sides. A file gets its name whole, at once; where there should be none, one that appears in that very
 * moment is not overwritten. Nothing is ever written through a symlink.
 */
export class Placer {
  readonly #options: PlacerOptions;
  readonly #madeDirs: string[] = [];

  constructor(options: PlacerOptions) {
    this.#options = options;
  }

  /** Steps come ascending by path, but for deletions, which come last and descending. @throws {DumontError} IO */
  place({ path, action }: MergeStep): MergedPath {
    try {
      switch (action) {
        case 'same':
          return { path, outcome: 'same' };
        case 'keep':
          return { path, outcome: 'kept' };
        case 'delete':
          return { path, outcome: this.#delete(path) };
        case 'take':
        case 'beside':
          return this.#bring(path, action);
        default:
          return assertNever(action);
      }
    } catch (error) {
      throw toDumontError(error, 'IO', `merging ${path}`);
    }
  }

  /** Gives the folders that were made their modes and owners, once nothing more goes into them. */
  finish(): void {
    const { dirs, root, owners } = this.#options;
    for (const path of this.#madeDirs.toReversed()) {
      const entry = dirs.get(path);
      if (entry !== undefined) applyToPath(`${root}/${path}`, entry, { owners });
    }
  }

  #bring(path: string, action: 'take' | 'beside'): MergedPath {
    const { branch, workspace, strategy } = this.#options;
    const theirs = must(branch.get(path), 'a plan brings what the branch has');
    if (this.#isBlocked(path)) {
      return strategy === 'ours' ? { path, outcome: 'kept' } : this.#putBeside(path, this.#wayAround(path));
    }
    const live = this.#look(path);
    if (theirs.type === 'dir') return { path, outcome: this.#makeDir(path, live) };
    if (action === 'beside') return this.#putBeside(path, this.#besideName(path));
    if (isAsSeen(workspace.get(path), live) && this.#put(path, live)) return { path, outcome: 'taken' };
    return this.#bringInConflict(path, theirs);
  }

  /** Somebody wrote there since the plan was made. */
  #bringInConflict(path: string, theirs: TreeNode): MergedPath {
    const { strategy } = this.#options;
    const live = this.#look(path);
    const action = live?.isDirectory() === true ? 'beside' : actionInConflict(strategy, theirs.mtimeNs, mtimeOf(live));
    if (action === 'keep' || strategy === 'ours') return { path, outcome: 'kept' };
    if (action === 'take' && this.#put(path, live)) return { path, outcome: 'taken' };
    return this.#putBeside(path, this.#besideName(path));
  }

  /** @param live what it may replace. @returns false when something appeared where nothing was */
  #put(path: string, live: BigIntStats | null, as = path): boolean {
    const { root, staging } = this.#options;
    this.#makeParents(as);
    const [from, to] = [`${staging}/${path}`, `${root}/${as}`];
    if (live !== null) {
      renameSync(from, to);
      return true;
    }
    try {
      linkSync(from, to);
      return true;
    } catch (error) {
      const code = systemErrorCode(error);
      if (code === 'EEXIST') return false;
      if (code !== 'EPERM' && code !== 'ENOTSUP') throw error;
      // A file system without hard links: looked at and done in two steps.
      if (this.#look(as) !== null) return false;
      renameSync(from, to);
      return true;
    }
  }

  #putBeside(path: string, as: string): MergedPath {
    const theirs = must(this.#options.branch.get(path), 'a plan brings what the branch has');
    if (theirs.type === 'dir') return { path, outcome: this.#makeDir(as, this.#look(as)), as };
    if (this.#look(as) === null && this.#put(path, null, as)) return { path, outcome: 'beside', as };
    // An earlier run put it there; what a user has made of it since is the user's.
    return isAsSeen(theirs, this.#look(as)) ? { path, outcome: 'beside', as } : { path, outcome: 'kept' };
  }

  #makeDir(path: string, live: BigIntStats | null): 'taken' | 'same' | 'kept' {
    if (live !== null) return live.isDirectory() ? 'same' : 'kept';
    this.#makeParents(`${path}/`);
    return 'taken';
  }

  #delete(path: string): 'deleted' | 'same' | 'kept' {
    if (this.#isBlocked(path)) return 'same';
    const live = this.#look(path);
    if (live === null) return 'same';
    const at = `${this.#options.root}/${path}`;
    if (!live.isDirectory()) {
      rmSync(at);
      return 'deleted';
    }
    try {
      rmdirSync(at);
      return 'deleted';
    } catch (error) {
      if (systemErrorCode(error) === 'ENOTEMPTY') return 'kept';
      throw error;
    }
  }

  /** True when something that is no folder stands where a folder above the path should be. */
  #isBlocked(path: string): boolean {
    return parentsOf(path).some((parent) => {
      const live = this.#look(parent);
      return live !== null && !live.isDirectory();
    });
  }

  /** The path with another name for each folder in whose place something else stands. */
  #wayAround(path: string): string {
    let at = '';
    for (const name of path.split('/').slice(0, -1)) {
      const plain = at + name;
      const live = this.#look(plain);
      at = `${live !== null && !live.isDirectory() ? this.#besideName(plain) : plain}/`;
    }
    return at + path.slice(path.lastIndexOf('/') + 1);
  }

  #makeParents(path: string): void {
    for (const parent of parentsOf(path)) {
      if (this.#look(parent) !== null) continue;
      mkdirSync(`${this.#options.root}/${parent}`, 0o755);
      this.#madeDirs.push(parent);
    }
  }

  #besideName(path: string): string {
    const suffix = `.branch-${this.#options.branchId}`;
    const start = path.lastIndexOf('/') + 1;
    let name = path.slice(start);
    // Whole characters, so that it stays text.
    while (Buffer.byteLength(name + suffix) > MAX_NAME_BYTES) name = name.replace(/.$/su, '');
    return path.slice(0, start) + name + suffix;
  }

  #look(path: string): BigIntStats | null {
    return lstatSync(`${this.#options.root}/${path}`, { bigint: true, throwIfNoEntry: false }) ?? null;
  }
}

/** True when what lies there has the node's kind, size and time. */
function isAsSeen(node: TreeNode | undefined, live: BigIntStats | null): boolean {
  if (node === undefined || live === null) return node === undefined && live === null;
  if (node.type === 'dir') return live.isDirectory();
  const isSameKind =
    node.type === 'file' ? live.isFile() && Number(live.size) === node.sizeBytes : live.isSymbolicLink();
  return isSameKind && isSameTime(live.mtimeNs, node.mtimeNs);
}

function mtimeOf(live: BigIntStats | null): bigint | null {
  return live === null ? null : live.mtimeNs;
}

/** Folders above a path, outermost first. */
function parentsOf(path: string): readonly string[] {
  const parents: string[] = [];
  for (let end = path.indexOf('/'); end !== -1; end = path.indexOf('/', end + 1)) parents.push(path.slice(0, end));
  return parents;
}
