import type { BigIntStats } from 'node:fs';
import { mkdir, realpath, statfs } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Entry, FileEntry, Manifest } from '@dumont/shared/format/manifest.ts';
import { packKey } from '@dumont/shared/format/layout.ts';
import type { RestoreResult } from '@dumont/shared/protocol/command.ts';
import type { SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError, isDumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import { readManifest } from '../snapshot/manifest-store.ts';
import type { StoreSecrets } from '../snapshot/seal.ts';
import { forEachBounded } from '../storage/for-each-bounded.ts';
import { throwIfAborted, type ObjectStore } from '../storage/object-store.ts';
import { CodecPool } from '../workers/codec-pool.ts';
import { loadIgnoreRules } from '../workspace/ignore.ts';
import { FileTask } from './file-task.ts';
import { LocalFile } from './local-reuse.ts';
import { chunkOffsets, planFetches, selectEntries, type PlannedFetch } from './plan.ts';
import { TargetFolder, type Survey } from './target-folder.ts';

/** Requests at once; with the longest range of 8 MiB they hold at most 64 MiB of frames and one chunk each. */
const MAX_FETCHES = 8;
/** Files compared with what is on disk at once. */
const MAX_COMPARES = 4;

export interface RestoreProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
  readonly doneFiles: number;
  readonly totalFiles: number;
}

export interface RestoreOptions {
  readonly store: ObjectStore;
  readonly snapshot: SnapshotRef;
  /** The folder; made when absent. */
  readonly target: string;
  readonly clock: Clock;
  /** A glob or path below the folder; only what matches, and the folders leading there, is restored. */
  readonly include?: string | undefined;
  /** Remove what the snapshot does not hold. What no snapshot can hold stays: ignored paths, sockets and the like. */
  readonly deleteExtra: boolean;
  /** Called for every chunk and file; throttling is the caller's. */
  readonly onProgress?: ((progress: RestoreProgress) => void) | undefined;
  /** Keys of an encrypted store. */
  readonly secrets?: StoreSecrets | null | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface RestoreOutcome extends Omit<RestoreResult, 'hookMs'> {
  /** Files that were there already, byte for byte. */
  readonly keptFileCount: number;
  /** Paths removed by `deleteExtra`. */
  readonly removedCount: number;
  readonly chunksFetched: number;
}

/**
 * Makes a folder hold a snapshot. Every chunk is checked against its id before it is written, every file appears whole
 * under its name or not at all, and what is on disk already is not fetched again; so running it again after it was
 * stopped, even by a kill, completes it. Owners are restored when running as root, times to within a microsecond.
 *
 * @throws {DumontError} before anything is written: NOT_FOUND or CORRUPT for the manifest; CONFLICT where a folder meets
 * what is no folder and `deleteExtra` is off; LIMIT when the disk is too small. Later: CORRUPT for a damaged or missing
 * chunk, IO, ABORTED. Files finished by then stay, unfinished ones leave nothing.
 */
export async function restoreSnapshot(options: RestoreOptions): Promise<RestoreOutcome> {
  if (options.include !== undefined && options.deleteExtra) {
    throw new DumontError('USAGE', 'a part of a snapshot cannot be restored with deletion of everything else', {
      field: 'include',
    });
  }
  const begunMs = options.clock.monotonicMs();
  const { manifest, storedBytes } = await readManifest(options.store, options.snapshot, {
    secrets: options.secrets,
    signal: options.signal,
  });
  const entries = selectEntries(manifest.entries, options.include);
  const root = await openTarget(options.target);
  const restore = new Restore(options, { manifest, entries, folder: new TargetFolder(root) });
  const removedCount = await restore.run(root);
  const { counts } = restore;
  return {
    snapshotId: options.snapshot.snapshotId,
    fileCount: entries.filter((entry) => entry.type === 'file' || entry.type === 'hardlink').length,
    bytesWritten: counts.bytesWritten,
    bytesFetched: counts.bytesFetched + storedBytes,
    totalMs: options.clock.monotonicMs() - begunMs,
    downloadMs: counts.downloadMs,
    decompressMs: counts.decompressMs,
    keptFileCount: counts.keptFiles,
    removedCount,
    chunksFetched: counts.chunksFetched,
  };
}

async function openTarget(target: string): Promise<string> {
  try {
    await mkdir(resolve(target), { recursive: true });
    return await realpath(target);
  } catch (error) {
    throw toDumontError(error, 'IO', `opening the folder ${target}`);
  }
}

interface RestorePlan {
  readonly manifest: Manifest;
  readonly entries: readonly Entry[];
  readonly folder: TargetFolder;
}

interface ChunkUse {
  readonly task: FileTask;
  readonly offset: number;
}

/** The state of one restore. */
class Restore {
  readonly #options: RestoreOptions;
  readonly #plan: RestorePlan;
  readonly #files: readonly FileEntry[];
  readonly #tasks: FileTask[] = [];
  /** By row of the chunk table. */
  readonly #needed = new Map<number, ChunkUse[]>();
  readonly #claimedInodes = new Set<string>();
  readonly #totalBytes: number;
  #doneBytes = 0;
  #doneFiles = 0;
  readonly counts = {
    bytesWritten: 0,
    bytesFetched: 0,
    downloadMs: 0,
    decompressMs: 0,
    keptFiles: 0,
    chunksFetched: 0,
  };

  constructor(options: RestoreOptions, plan: RestorePlan) {
    this.#options = options;
    this.#plan = plan;
    this.#files = plan.entries.filter((entry) => entry.type === 'file');
    this.#totalBytes = this.#files.reduce((sum, file) => sum + file.size, 0);
  }

  /** @returns how many paths were removed */
  async run(root: string): Promise<number> {
    const { entries, folder } = this.#plan;
    const { deleteExtra } = this.#options;
    const survey = await folder.survey(entries);
    await this.#checkSpace(root, survey);
    let removed = await this.#clearConflicts(root, survey.conflicts);
    const dirs = entries.filter((entry) => entry.type === 'dir');
    for (const dir of dirs) await folder.makeDir(dir, survey.existing.get(dir.path));
    try {
      await this.#restoreFiles(survey);
    } finally {
      await forEachBounded(this.#tasks, MAX_COMPARES, (task) => task.discard());
    }
    for (const entry of entries) {
      throwIfAborted(this.#options.signal);
      if (entry.type === 'hardlink') await folder.makeHardlink(entry);
      if (entry.type === 'symlink') await folder.makeSymlink(entry);
    }
    // The rules that hold now are the snapshot's own.
    if (deleteExtra) removed += await folder.removeExtras(entries, await loadIgnoreRules(root));
    for (const dir of dirs.toReversed()) await folder.finishDir(dir);
    return removed;
  }

  async #checkSpace(root: string, survey: Survey): Promise<void> {
    const { bavail, bsize } = await statfs(root);
    const reusable = this.#files.reduce(
      (sum, file) => sum + Math.min(file.size, Number(survey.existing.get(file.path)?.size ?? 0n)),
      0,
    );
    const needed = this.#totalBytes - reusable;
    if (needed <= bavail * bsize) return;
    throw new DumontError('LIMIT', `the snapshot needs ${needed} bytes in ${root}, there are ${bavail * bsize} free`, {
      hint: 'Restore to a larger disk, or a part of it with --include.',
    });
  }

  async #clearConflicts(root: string, conflicts: readonly string[]): Promise<number> {
    const first = conflicts[0];
    if (first === undefined) return 0;
    const conflict = new DumontError(
      'CONFLICT',
      `${root}/${first} is in the way${conflicts.length > 1 ? `, and ${conflicts.length - 1} more` : ''}: ` +
        'one of snapshot and disk has a folder there, the other has not',
      { hint: 'Restore to an empty folder, or let it delete what the snapshot does not hold.' },
    );
    if (!this.#options.deleteExtra) throw conflict;
    const rules = await loadIgnoreRules(root);
    let removed = 0;
    for (const path of conflicts) removed += await this.#plan.folder.remove(path, rules);
    const left = await this.#plan.folder.survey(this.#plan.entries);
    if (left.conflicts.length > 0) throw conflict;
    return removed;
  }

  async #restoreFiles(survey: Survey): Promise<void> {
    const links = new Map<string, number>();
    for (const entry of this.#plan.entries) {
      if (entry.type === 'hardlink') links.set(entry.target, (links.get(entry.target) ?? 0) + 1);
    }
    await forEachBounded(this.#files, MAX_COMPARES, async (file) => {
      throwIfAborted(this.#options.signal);
      const existing = survey.existing.get(file.path);
      const expectedLinks = 1 + (links.get(file.path) ?? 0);
      await this.#prepareFile(file, existing, expectedLinks);
    });
    const fetches = planFetches(this.#plan.manifest, this.#needed);
    await using codecs = new CodecPool({ secrets: this.#options.secrets ?? null, effort: 'fast' });
    await forEachBounded(fetches, MAX_FETCHES, (fetch) => this.#fetch(fetch, codecs));
  }

  /** Keeps the file on disk when it is the one, else writes what it can give and notes which chunks are missing. */
  async #prepareFile(file: FileEntry, existing: BigIntStats | undefined, expectedLinks: number): Promise<void> {
    const { folder, manifest } = this.#plan;
    const path = folder.absolute(file.path);
    const chunks = chunkOffsets(file, manifest);
    await using local =
      existing?.isFile() === true ? await LocalFile.open(path, chunks, this.#options.secrets ?? null) : null;
    const matching = local === null ? new Set() : await local.matching(chunks, this.#options.signal);
    if (existing !== undefined && local !== null && Number(existing.size) === file.size) {
      if (matching.size === chunks.length && this.#mayKeep(existing, expectedLinks)) {
        await folder.ensureMetadata(file);
        this.counts.keptFiles += 1;
        this.#advance(file.size, 1);
        return;
      }
    }
    const task = new FileTask(file, path);
    this.#tasks.push(task);
    if (chunks.length === 0) {
      await task.writeEmpty();
      this.#advance(0, 1);
    }
    for (const chunk of chunks) {
      // Read again, and checked again: the file on disk may be changing.
      const bytes = matching.has(chunk) ? ((await local?.read(chunk)) ?? null) : null;
      if (bytes === null) {
        const uses = this.#needed.get(chunk.row);
        if (uses === undefined) this.#needed.set(chunk.row, [{ task, offset: chunk.offset }]);
        else uses.push({ task, offset: chunk.offset });
      } else {
        await this.#write(task, bytes, chunk.offset);
      }
    }
  }

  /** A file with other hard links than the snapshot's must be a new one, or changing it would change those. */
  #mayKeep(existing: BigIntStats, expectedLinks: number): boolean {
    const inode = `${existing.dev}:${existing.ino}`;
    if (this.#claimedInodes.has(inode) || Number(existing.nlink) !== expectedLinks) return false;
    this.#claimedInodes.add(inode);
    return true;
  }

  async #fetch(fetch: PlannedFetch<ChunkUse>, codecs: CodecPool): Promise<void> {
    const { store, clock, signal } = this.#options;
    throwIfAborted(signal);
    const begunMs = clock.monotonicMs();
    const key = packKey(fetch.packId);
    const range = { offset: fetch.offset, length: fetch.length };
    const bytes = await store.get(key, { range, signal }).catch((error: unknown) => {
      if (!isDumontError(error, 'NOT_FOUND')) throw error;
      throw new DumontError('CORRUPT', `the snapshot needs pack ${key}, which is gone`, { cause: error });
    });
    this.counts.bytesFetched += bytes.length;
    this.counts.downloadMs += clock.monotonicMs() - begunMs;
    for (const chunk of fetch.chunks) {
      const decodeMs = clock.monotonicMs();
      const start = chunk.offset - fetch.offset;
      const raw = await codecs.decode(bytes.subarray(start, start + chunk.storedLength), chunk);
      this.counts.decompressMs += clock.monotonicMs() - decodeMs;
      this.counts.chunksFetched += 1;
      for (const use of chunk.uses) await this.#write(use.task, raw, use.offset);
    }
  }

  async #write(task: FileTask, bytes: Uint8Array, offset: number): Promise<void> {
    throwIfAborted(this.#options.signal);
    await task.write(bytes, offset);
    this.counts.bytesWritten += bytes.length;
    this.#advance(bytes.length, task.isDone ? 1 : 0);
  }

  #advance(bytes: number, files: number): void {
    this.#doneBytes += bytes;
    this.#doneFiles += files;
    this.#options.onProgress?.({
      doneBytes: this.#doneBytes,
      totalBytes: this.#totalBytes,
      doneFiles: this.#doneFiles,
      totalFiles: this.#files.length,
    });
  }
}
