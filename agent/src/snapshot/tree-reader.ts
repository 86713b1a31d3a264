import { assertNever } from '@dumont/shared/util/assert.ts';
import {
  sameFileState,
  type FileState,
  type ScannedEntry,
  type ScanResult,
  type SkippedPath,
} from '../workspace/scan.ts';
import { draftFromParent, metadataOf, type DraftEntry, type DraftFile } from './draft.ts';
import type { FileRead } from './file-reader.ts';
import type { LoadedManifest } from './loaded-manifest.ts';
import type { WritePipeline } from './write-pipeline.ts';

/** What a file held when it was last read, valid while its state is the same. */
export interface CachedFile {
  readonly state: FileState;
  readonly chunkIds: readonly string[];
}

export interface TreeProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
  readonly doneFiles: number;
  readonly totalFiles: number;
}

export interface TreeReaderOptions {
  readonly root: string;
  readonly scan: ScanResult;
  readonly parent: LoadedManifest | null;
  /** By path; read and written. */
  readonly cache: Map<string, CachedFile>;
  readonly pipeline: WritePipeline;
  /** True when a chunk need not be read because the store holds it. */
  readonly isStored: (chunkId: string) => boolean;
  readonly onProgress?: ((progress: TreeProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface TreeRead {
  /** Ascending by path. */
  readonly drafts: readonly DraftEntry[];
  readonly tornPaths: readonly string[];
  readonly skipped: readonly SkippedPath[];
}

/**
 * Turns a scan into entries by reading the files that changed. What cannot be read now, or changes too fast, stays as
 * the parent has it, and is named in the result.
 */
export async function readTree(options: TreeReaderOptions): Promise<TreeRead> {
  const { scan, parent } = options;
  const drafts: DraftEntry[] = [];
  const tornPaths: string[] = [];
  const skipped: SkippedPath[] = [...scan.skipped];
  for (const entry of scan.entries) {
    if (entry.type === 'file') continue;
    const metadata = metadataOf(entry, entry.stats.mtimeNs, parent);
    drafts.push(
      entry.type === 'dir' ? { type: 'dir', ...metadata } : { type: 'symlink', ...metadata, target: entry.linkTarget },
    );
  }
  const inodes = groupByInode(scan.entries);
  const report = progressReporter(inodes, options.onProgress);
  const work: Work = { drafts, tornPaths, skipped };
  await readInodes(inodes, options, { work, report });
  if (parent !== null) drafts.push(...keptFromParent(parent, drafts, skipped));
  forgetMissing(options.cache, drafts);
  return { drafts: drafts.sort((a, b) => (a.path < b.path ? -1 : 1)), tornPaths: tornPaths.sort(), skipped };
}

interface Work {
  readonly drafts: DraftEntry[];
  readonly tornPaths: string[];
  readonly skipped: SkippedPath[];
}

/** The paths of each regular file, hard links together, ascending. */
function groupByInode(entries: readonly ScannedEntry[]): readonly (readonly ScannedEntry[])[] {
  const groups = new Map<string, ScannedEntry[]>();
  for (const entry of entries) {
    if (entry.type !== 'file') continue;
    const key = entry.stats.nlink > 1n ? `${entry.stats.dev}:${entry.stats.ino}` : entry.path;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [entry]);
    else group.push(entry);
  }
  return [...groups.values()];
}

/** An inode whose first `tried` paths are gone. */
interface InodeToRead {
  readonly links: readonly ScannedEntry[];
  readonly tried: number;
  /** Absolute, of the path to try next. */
  readonly path: string;
  readonly sizeBytes: number;
}

/** The first path that can still be opened becomes the file, the others hard links to it. */
async function readInodes(
  inodes: readonly (readonly ScannedEntry[])[],
  options: TreeReaderOptions,
  { work, report }: { readonly work: Work; readonly report: (links: readonly ScannedEntry[]) => void },
): Promise<void> {
  const { root, cache, pipeline } = options;
  const next = (links: readonly ScannedEntry[], tried: number): InodeToRead[] => {
    const entry = links[tried];
    if (entry === undefined) return [];
    return [{ links, tried, path: `${root}/${entry.path}`, sizeBytes: Number(entry.stats.size) }];
  };
  let waiting: InodeToRead[] = [];
  for (const links of inodes) {
    const known = knownRead(links, options);
    if (known === null) {
      waiting.push(...next(links, 0));
    } else {
      addRead(links, known, options, work);
      report(links);
    }
  }
  while (waiting.length > 0) {
    const vanished: InodeToRead[] = [];
    await pipeline.readFiles(waiting, ({ links, tried }, read) => {
      const entry = links[tried];
      if (entry === undefined) return;
      remember(cache, entry.path, read);
      if (read.kind === 'vanished') vanished.push(...next(links, tried + 1));
      else addRead(links.slice(tried), read, options, work);
      if (read.kind !== 'vanished' || tried + 1 === links.length) report(links);
    });
    waiting = vanished;
  }
}

/** What the cache says of an inode that nobody touched, null when it has to be read. */
function knownRead(links: readonly ScannedEntry[], options: TreeReaderOptions): ReadFile | null {
  const [entry] = links;
  const known = entry === undefined ? undefined : options.cache.get(entry.path);
  if (entry === undefined || known === undefined || !sameFileState(known.state, entry.stats)) return null;
  if (!known.chunkIds.every(options.isStored)) return null;
  const { state, chunkIds } = known;
  return { kind: 'read', sizeBytes: Number(state.size), chunkIds, state, settled: true, torn: false };
}

type ReadFile = Extract<FileRead, { kind: 'read' }>;

function remember(cache: Map<string, CachedFile>, path: string, read: FileRead): void {
  if (read.kind === 'read' && read.settled) {
    const { size, mtimeNs, ctimeNs, ino, dev } = read.state;
    cache.set(path, { state: { size, mtimeNs, ctimeNs, ino, dev }, chunkIds: read.chunkIds });
  } else {
    cache.delete(path);
  }
}

/** @param links the path that was read, then its hard links */
function addRead(
  links: readonly ScannedEntry[],
  read: Exclude<FileRead, { kind: 'vanished' }>,
  options: TreeReaderOptions,
  work: Work,
): void {
  const [entry, ...others] = links;
  if (entry === undefined) return;
  const draft = draftOf(entry, read, options);
  if (read.kind === 'read' && read.torn) work.tornPaths.push(entry.path);
  if (read.kind === 'unreadable') work.skipped.push(...links.map((link) => skip(link, read.reason)));
  if (draft === null) return;
  work.drafts.push(draft);
  for (const other of others) work.drafts.push({ type: 'hardlink', path: other.path, target: entry.path });
}

/** Null when there is nothing to put into the snapshot. */
function draftOf(
  entry: ScannedEntry,
  read: Exclude<FileRead, { kind: 'vanished' }>,
  { parent }: TreeReaderOptions,
): DraftFile | null {
  const before = parent?.file(entry.path);
  const previous = parent === null || before === undefined ? null : draftFromParent(parent, before, entry.path);
  switch (read.kind) {
    case 'unreadable':
      return previous;
    case 'read': {
      if (read.torn && previous !== null) return previous;
      const metadata = metadataOf(entry, read.state.mtimeNs, parent);
      const draft: DraftFile = { type: 'file', ...metadata, size: read.sizeBytes, chunkIds: read.chunkIds };
      return read.torn ? { ...draft, torn: true } : draft;
    }
    default:
      return assertNever(read);
  }
}

function skip(entry: ScannedEntry, reason: string): SkippedPath {
  return { path: entry.path, kind: 'unreadable', reason };
}

/** The parent's entries at and below what cannot be looked at now: unreadable is not deleted. */
function keptFromParent(
  parent: LoadedManifest,
  drafts: readonly DraftEntry[],
  skipped: readonly SkippedPath[],
): readonly DraftEntry[] {
  const unreadable = new Set(skipped.filter((one) => one.kind === 'unreadable').map((one) => one.path));
  if (unreadable.size === 0) return [];
  const present = new Map(drafts.map((draft) => [draft.path, draft.type]));
  const kept: DraftEntry[] = [];
  for (const entry of parent.manifest.entries) {
    if (present.has(entry.path) || !isWithin(entry.path, unreadable)) continue;
    const slash = entry.path.lastIndexOf('/');
    if (slash !== -1 && present.get(entry.path.slice(0, slash)) !== 'dir') continue;
    const file = parent.file(entry.path);
    const draft = file === undefined ? entry : draftFromParent(parent, file, entry.path);
    if (draft.type === 'file' && !('chunkIds' in draft)) continue;
    kept.push(draft);
    present.set(draft.path, draft.type);
  }
  return kept;
}

function isWithin(path: string, roots: ReadonlySet<string>): boolean {
  for (let end = path.length; end > 0; end = path.lastIndexOf('/', end - 1)) {
    if (roots.has(path.slice(0, end))) return true;
  }
  return false;
}

function forgetMissing(cache: Map<string, CachedFile>, drafts: readonly DraftEntry[]): void {
  const present = new Set(drafts.map((draft) => draft.path));
  for (const path of cache.keys()) if (!present.has(path)) cache.delete(path);
}

function progressReporter(
  inodes: readonly (readonly ScannedEntry[])[],
  onProgress: ((progress: TreeProgress) => void) | undefined,
): (links: readonly ScannedEntry[]) => void {
  const sizeOf = (links: readonly ScannedEntry[]) => Number(links[0]?.stats.size ?? 0n);
  const totalBytes = inodes.reduce((sum, links) => sum + sizeOf(links), 0);
  let doneBytes = 0;
  let doneFiles = 0;
  return (links) => {
    doneBytes += sizeOf(links);
    doneFiles += 1;
    onProgress?.({ doneBytes, totalBytes, doneFiles, totalFiles: inodes.length });
  };
}
