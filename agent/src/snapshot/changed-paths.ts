import { examine, scanWorkspace, type ScannedEntry, type SkippedPath } from '../workspace/scan.ts';
import { IGNORE_FILE, type IgnoreRules } from '../workspace/ignore.ts';
import { isSameInode, type HeldEntry, type HeldSnapshot, type HeldTree } from './held-snapshot.ts';

/** What became of the paths that may have changed. */
export interface ChangeScan {
  /** Ascending by path. */
  readonly entries: readonly ScannedEntry[];
  /** Of the whole tree, as a full scan would name them. */
  readonly skipped: readonly SkippedPath[];
  /** Paths of the held snapshot that `entries` replaces or that are gone. */
  readonly dropped: ReadonlySet<string>;
  /** Folders all of whose content is likewise replaced or gone. */
  readonly droppedTrees: ReadonlySet<string>;
}

interface ChangeScanOptions {
  readonly root: string;
  readonly rules: IgnoreRules;
  readonly base: HeldTree;
  readonly changed: ReadonlySet<string>;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Looks at paths that may have changed since the base was taken, the folders above them, and all that lies in folders
 * that are new. Null when that might not show what a full scan would: then one has to be made.
 */
export async function scanChanges(options: ChangeScanOptions): Promise<ChangeScan | null> {
  const paths = new Set<string>();
  for (const path of [...options.changed, ...options.base.revisit]) {
    if (!isPlain(path) || path === IGNORE_FILE) return null;
    for (let end = path.length; end > 0; end = path.lastIndexOf('/', end - 1)) paths.add(path.slice(0, end));
  }
  const look = new ChangeLook(options);
  for (const path of [...paths].sort()) if (!(await look.at(path))) return null;
  return look.result();
}

/**
 * The same for these files alone, as if nothing else had changed: of folders that are new, only what leads to them. Null
 * when that cannot be told apart.
 */
export async function scanOnly(
  options: Pick<ChangeScanOptions, 'root' | 'rules' | 'signal'> & {
    readonly held: HeldSnapshot;
    readonly only: ReadonlySet<string>;
  },
): Promise<ChangeScan | null> {
  const { held, only } = options;
  const scan = await scanChanges({ ...options, base: { held, skipped: [], revisit: [] }, changed: only });
  if (scan === null) return null;
  const isWanted = ({ path, type }: ScannedEntry) => type === 'dir' || only.has(path);
  return { ...scan, entries: scan.entries.filter(isWanted) };
}

class ChangeLook {
  readonly #options: ChangeScanOptions;
  readonly #held: HeldSnapshot;
  readonly #entries: ScannedEntry[] = [];
  readonly #skipped: SkippedPath[] = [];
  readonly #dropped = new Set<string>();
  readonly #droppedTrees = new Set<string>();

  constructor(options: ChangeScanOptions) {
    this.#options = options;
    this.#held = options.base.held;
  }

  /** False when a full scan is needed. Paths come ascending. */
  async at(path: string): Promise<boolean> {
    if (isBelow(path, this.#droppedTrees)) return true;
    const before = this.#held.find(path);
    if (this.#isLink(before)) return false;
    const found = examine(this.#options.root, path, this.#options.rules);
    this.#dropped.add(path);
    if (found === null || 'kind' in found) {
      if (found !== null) this.#skipped.push(found);
      return found?.kind !== 'unreadable' && this.#dropTree(path);
    }
    if (found.type === 'file' && found.linkCount > 1) return false;
    this.#entries.push(found);
    const isSameFolder = found.type === 'dir' && before?.draft.type === 'dir' && isSameInode(before, found);
    if (isSameFolder) return true;
    return this.#dropTree(path) && (found.type !== 'dir' || this.#addTree(path));
  }

  result(): ChangeScan {
    const isLookedAt = (path: string) => this.#dropped.has(path) || isBelow(path, this.#droppedTrees);
    const skipped = [...this.#options.base.skipped.filter((one) => !isLookedAt(one.path)), ...this.#skipped];
    const entries = this.#entries.sort((a, b) => (a.path < b.path ? -1 : 1));
    return { entries, skipped, dropped: this.#dropped, droppedTrees: this.#droppedTrees };
  }

  #dropTree(path: string): boolean {
    this.#droppedTrees.add(path);
    for (const { path: below, type } of this.#held.range(`${path}/`, `${path}0`)) {
      if (type === 'hardlink' || this.#held.isLinkTarget(below)) return false;
    }
    return true;
  }

  async #addTree(path: string): Promise<boolean> {
    const { root, rules, signal } = this.#options;
    const { entries, skipped } = await scanWorkspace(root, rules, { below: path, signal });
    if (skipped.some((one) => one.kind === 'unreadable')) return false;
    if (entries.some((one) => one.type === 'file' && one.linkCount > 1)) return false;
    for (const entry of entries) this.#entries.push(entry);
    this.#skipped.push(...skipped);
    return true;
  }

  #isLink(before: HeldEntry | undefined): boolean {
    return before !== undefined && (before.draft.type === 'hardlink' || this.#held.isLinkTarget(before.draft.path));
  }
}

/** A path such as a scan gives; one with U+FFFD may stand for bytes that are no UTF-8. */
function isPlain(path: string): boolean {
  return (
    path !== '' && !path.includes('\uFFFD') && path.split('/').every((name) => name !== '' && !/^\.\.?$/.test(name))
  );
}

function isBelow(path: string, trees: ReadonlySet<string>): boolean {
  for (let end = path.lastIndexOf('/'); end > 0; end = path.lastIndexOf('/', end - 1)) {
    if (trees.has(path.slice(0, end))) return true;
  }
  return false;
}
