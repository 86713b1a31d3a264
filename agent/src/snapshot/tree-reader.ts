import type { Xattrs } from '@dumont/shared/format/manifest.ts';
import { assertNever, must } from '@dumont/shared/util/assert.ts';
import { isWithinTick, type ScannedEntry, type ScanResult, type SkippedPath } from '../workspace/scan.ts';
import { readXattrs } from '../workspace/xattrs.ts';
import type { DeltaBases } from './delta-bases.ts';
import { fileDraft, metadataOf, sharedDraft, type DraftEntry, type DraftFile } from './draft.ts';
import type { FileRead } from './file-reader.ts';
import { isUntouched, type HeldSnapshot } from './held-snapshot.ts';
import type { InodeState } from './segment-cutter.ts';
import type { FileToRead, WritePipeline } from './write-pipeline.ts';

export interface TreeProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
  readonly doneFiles: number;
  readonly totalFiles: number;
}

export interface TreeReaderOptions {
  readonly root: string;
  readonly scan: ScanResult;
  /** When the scan began, Unix ms. */
  readonly startedAtMs: number;
  /** What entries are compared with; a path that says the same keeps its object. */
  readonly parent: HeldSnapshot | null;
  /** What else is known of files and their content, such as the last snapshot made. */
  readonly memory: HeldSnapshot | null;
  readonly bases: DeltaBases | null;
  readonly pipeline: Pick<WritePipeline, 'readFiles'>;
  /** True when a chunk need not be read because the store holds it. */
  readonly isStored: (chunkId: string) => boolean;
  readonly onProgress?: ((progress: TreeProgress) => void) | undefined;
}

/** An entry for the snapshot and the inode it was taken from. */
export interface ReadEntry {
  readonly draft: DraftEntry;
  readonly state: InodeState;
}

export interface TreeRead {
  /** Ascending by path. */
  readonly entries: readonly ReadEntry[];
  readonly tornPaths: readonly string[];
  readonly skipped: readonly SkippedPath[];
  /** Paths to look at again next time: torn, unreadable, or changed a moment before they were read. */
  readonly revisit: readonly string[];
}

/**
 * Turns a scan into entries by reading the files that changed. What cannot be read now, or changes too fast, stays as
 * the parent has it, and is named in the result.
 */
export async function readTree(options: TreeReaderOptions): Promise<TreeRead> {
  const reader = new TreeReader(options);
  await reader.readAll();
  return reader.result();
}

type ReadFile = Extract<FileRead, { kind: 'read' }>;

/** An inode some of whose paths are still to be tried. */
interface InodeToRead extends FileToRead {
  /** Indexes of its paths, ascending; the first is the one to read. */
  readonly links: readonly number[];
}

class TreeReader {
  readonly #options: TreeReaderOptions;
  readonly #scanned: readonly ScannedEntry[];
  /** By index of the scan; undefined for what is not in the snapshot. */
  readonly #read: (ReadEntry | undefined)[];
  readonly #tornPaths: string[] = [];
  readonly #revisit: string[] = [];
  readonly #skipped: SkippedPath[];
  readonly #progress = { doneBytes: 0, totalBytes: 0, doneFiles: 0, totalFiles: 0 };

  constructor(options: TreeReaderOptions) {
    this.#options = options;
    this.#scanned = options.scan.entries;
    this.#read = this.#scanned.map(() => undefined);
    this.#skipped = [...options.scan.skipped];
  }

  async readAll(): Promise<void> {
    const toRead: InodeToRead[] = [];
    for (const links of this.#inodes()) {
      const entry = this.#scan(links[0]);
      this.#progress.totalFiles += 1;
      this.#progress.totalBytes += Number(entry.size);
      const known = this.#known(entry);
      if (known === null) toRead.push(this.#toRead(links));
      else this.#addKnown(links, known);
    }
    if (this.#progress.doneFiles > 0) this.#options.onProgress?.({ ...this.#progress });
    await this.#readInodes(toRead);
  }

  result(): TreeRead {
    const read = this.#read.filter((one) => one !== undefined);
    const kept = this.#keptFromParent(read);
    const entries =
      kept.length === 0 ? read : [...read, ...kept].sort((a, b) => (a.draft.path < b.draft.path ? -1 : 1));
    const unreadable = this.#skipped.filter((one) => one.kind === 'unreadable').map((one) => one.path);
    return {
      entries,
      tornPaths: this.#tornPaths.sort(),
      skipped: this.#skipped,
      revisit: [...this.#revisit, ...unreadable],
    };
  }

  /** Adds what is no file, and gives the paths of each file, hard links together. */
  *#inodes(): Generator<readonly number[]> {
    const linked = new Map<string, number[]>();
    for (const [index, entry] of this.#scanned.entries()) {
      if (entry.type !== 'file') {
        this.#addPlain(index, entry);
      } else if (entry.linkCount === 1) {
        yield [index];
      } else {
        const key = `${entry.dev}:${entry.ino}`;
        const links = linked.get(key);
        if (links === undefined) linked.set(key, [index]);
        else links.push(index);
      }
    }
    yield* linked.values();
  }

  #addPlain(index: number, entry: ScannedEntry): void {
    const found = this.#options.parent?.find(entry.path);
    const metadata = metadataOf(entry, entry.mtimeNs, found?.draft);
    if (entry.type === 'symlink') {
      const draft = sharedDraft({ type: 'symlink', ...metadata, target: entry.linkTarget }, found?.draft);
      this.#read[index] = { draft, state: entry };
      return;
    }
    const isKnown = found?.draft.type === 'dir' && isUntouched(found, entry);
    const xattrs = isKnown ? (found.draft as { xattrs?: Xattrs }).xattrs : this.#xattrs(entry.path);
    const draft = sharedDraft({ type: 'dir', ...metadata, ...(xattrs === undefined ? {} : { xattrs }) }, found?.draft);
    this.#read[index] = { draft, state: stateOf(entry, !isWithinTick(entry, this.#options.startedAtMs)) };
  }

  /** What is known of a file that nobody touched, null when it has to be read. */
  #known(entry: ScannedEntry): DraftFile | null {
    const { parent, memory, isStored } = this.#options;
    for (const held of [parent, memory]) {
      const found = held?.find(entry.path);
      if (found?.draft.type !== 'file' || !isUntouched(found, entry)) continue;
      if (found.draft.chunkIds.every(isStored)) return found.draft;
    }
    return null;
  }

  #addKnown(links: readonly number[], known: DraftFile): void {
    const entry = this.#scan(links[0]);
    const before = this.#options.parent?.find(entry.path)?.draft;
    if (known === before && hasMetadata(known, entry)) {
      this.#add(links, known, entry);
    } else {
      const draft = fileDraft(metadataOf(entry, entry.mtimeNs, before), {
        ...known,
        holes: known.holes,
        xattrs: known.xattrs,
        torn: false,
      });
      this.#add(links, sharedDraft(draft, before), entry);
    }
    this.#progress.doneFiles += 1;
    this.#progress.doneBytes += Number(entry.size);
  }

  /** The first path that can still be opened becomes the file, the others hard links to it. */
  async #readInodes(toRead: readonly InodeToRead[]): Promise<void> {
    let waiting = toRead;
    while (waiting.length > 0) {
      const vanished: InodeToRead[] = [];
      const onRead = ({ links }: InodeToRead, read: FileRead) => {
        const others = links.slice(1);
        if (read.kind === 'vanished' && others.length > 0) {
          vanished.push(this.#toRead(others));
          return;
        }
        if (read.kind !== 'vanished') this.#addRead(links, read);
        this.#progress.doneFiles += 1;
        this.#report(0);
      };
      await this.#options.pipeline.readFiles(waiting, onRead, (byteCount) => this.#report(byteCount));
      waiting = vanished;
    }
  }

  /** What is read twice, or turns out shorter, must not make progress go past its end or stop before. */
  #report(byteCount: number): void {
    const progress = this.#progress;
    const isOver = progress.doneFiles === progress.totalFiles;
    progress.doneBytes = isOver ? progress.totalBytes : Math.min(progress.totalBytes, progress.doneBytes + byteCount);
    this.#options.onProgress?.({ ...progress });
  }

  #toRead(links: readonly number[]): InodeToRead {
    const { path, size } = this.#scan(links[0]);
    const sizeBytes = Number(size);
    const base = this.#options.bases?.choose(path, sizeBytes);
    return { links, path: `${this.#options.root}/${path}`, sizeBytes, base };
  }

  /** @param links the path that was read, then its hard links */
  #addRead(links: readonly number[], read: Exclude<FileRead, { kind: 'vanished' }>): void {
    const entry = this.#scan(links[0]);
    const { path } = entry;
    const { parent } = this.#options;
    const before = parent?.find(path)?.draft;
    const previous = fileOfParent(parent, path);
    switch (read.kind) {
      case 'unreadable':
        for (const link of links) {
          this.#skipped.push({ path: this.#scan(link).path, kind: 'unreadable', reason: read.reason });
        }
        if (previous !== undefined) this.#add(links, previous, stateOf(entry, false));
        return;
      case 'read':
        if (read.torn) this.#tornPaths.push(path);
        if (!read.settled) this.#revisit.push(path);
        if (read.torn && previous !== undefined) this.#add(links, previous, stateOf(entry, false));
        else
          this.#add(links, sharedDraft(this.#draftOf(entry, read, before), before), stateOf(read.state, read.settled));
        return;
      default:
        assertNever(read);
    }
  }

  #draftOf(entry: ScannedEntry, read: ReadFile, before: DraftEntry | undefined): DraftFile {
    const { sizeBytes: size, chunkIds, holes, torn } = read;
    // After the content, whose state is older: a later change of the attributes then shows in it.
    const xattrs = this.#xattrs(entry.path);
    return fileDraft(metadataOf(entry, read.state.mtimeNs, before), { size, chunkIds, holes, xattrs, torn });
  }

  #add([first = -1, ...others]: readonly number[], draft: DraftFile, state: InodeState): void {
    this.#read[first] = { draft, state };
    for (const index of others) {
      const other = this.#scan(index);
      const link: DraftEntry = { type: 'hardlink', path: other.path, target: draft.path };
      this.#read[index] = { draft: sharedDraft(link, this.#options.parent?.find(other.path)?.draft), state: other };
    }
  }

  /** The parent's entries at and below what cannot be looked at now: unreadable is not deleted. */
  #keptFromParent(read: readonly ReadEntry[]): readonly ReadEntry[] {
    const { parent } = this.#options;
    const unreadable = new Set(this.#skipped.filter((one) => one.kind === 'unreadable').map((one) => one.path));
    if (parent === null || unreadable.size === 0) return [];
    const present = new Map(read.map(({ draft }) => [draft.path, draft.type]));
    const kept: ReadEntry[] = [];
    for (const root of [...unreadable].sort()) {
      for (const entry of [parent.find(root)?.draft, ...parent.range(`${root}/`, `${root}0`)]) {
        if (entry === undefined || present.has(entry.path)) continue;
        const slash = entry.path.lastIndexOf('/');
        if (slash !== -1 && present.get(entry.path.slice(0, slash)) !== 'dir') continue;
        const draft = entry.type === 'hardlink' ? fileOfParent(parent, entry.path) : entry;
        if (draft === undefined) continue;
        kept.push({ draft, state: { ctimeNs: 0n, ino: 0n, dev: 0n } });
        present.set(draft.path, draft.type);
      }
    }
    return kept;
  }

  #xattrs(path: string): Xattrs | undefined {
    return readXattrs(`${this.#options.root}/${path}`);
  }

  #scan(index: number | undefined): ScannedEntry {
    return must(this.#scanned[index ?? -1], 'indexes are those of the scan');
  }
}

/** A file as the parent has it, under a path that may be a hard link there. */
function fileOfParent(parent: HeldSnapshot | null, path: string): DraftFile | undefined {
  const file = parent?.file(path);
  return file === undefined || file.path === path ? file : { ...file, path };
}

function hasMetadata(draft: DraftFile, { mode, uid, gid, mtimeNs }: ScannedEntry): boolean {
  return draft.mode === mode && draft.uid === uid && draft.gid === gid && draft.mtimeNs === String(mtimeNs);
}

function stateOf({ ctimeNs, ino, dev }: InodeState, isSettled: boolean): InodeState {
  return { ctimeNs: isSettled ? ctimeNs : 0n, ino, dev };
}
