import type { BigIntStats } from 'node:fs';
import { statfs } from 'node:fs/promises';
import type { Entry, FileEntry, Manifest } from '@dumont/shared/format/manifest.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { throwIfAborted } from '../storage/object-store.ts';
import { loadIgnoreRules } from '../workspace/ignore.ts';
import { ChunkPeer } from '../peer/chunk-peer.ts';
import type { ChunkCache } from './chunk-cache.ts';
import { ChunkFetcher } from './chunk-fetcher.ts';
import { FileState } from './file-state.ts';
import { compareFiles, makeEmptyFiles, type FileToCheck } from './local-files.ts';
import { givesAccessList } from './metadata.ts';
import { MissingChunks } from './missing-chunks.ts';
import type { Place } from './new-file.ts';
import type { Flaws } from './orders.ts';
import { dataBytes } from './plan.ts';
import type { RestoreOptions } from './restorer.ts';
import { orderEntries, type Stage, type Turn } from './select.ts';
import { TargetFolder, type Survey } from './target-folder.ts';
import { deservesThreads, WriterPool } from './writer-pool.ts';

/** Attributes that could not be set are listed up to this number, then only counted. */
const MAX_LISTED_FLAWS = 20;

/** What is restored where. */
export interface RestorePlan {
  readonly manifest: Manifest;
  readonly entries: readonly Entry[];
  readonly place: Place;
  readonly cache: ChunkCache | null;
  /** Monotonic. */
  readonly begunMs: number;
}

/** One restore from its survey to its last folder. Used once. */
export class Restore {
  readonly #options: RestoreOptions;
  readonly #plan: RestorePlan;
  readonly #folder: TargetFolder;
  readonly #files: readonly FileEntry[];
  readonly #turns: ReadonlyMap<string, Turn>;
  readonly #hasPriority: boolean;
  readonly #states: FileState[] = [];
  readonly #claimedInodes = new Set<string>();
  readonly #flawList: string[] = [];
  readonly #totalBytes: number;
  #flawCount = 0;
  #doneBytes = 0;
  #doneFiles = 0;
  /** Files of the first stage that are not in their place. */
  #priorityLeft: number;
  #priorityMs: number | null = null;
  #allMs = 0;
  readonly counts = {
    bytesWritten: 0,
    bytesFetched: 0,
    bytesFromCache: 0,
    bytesFromPeer: 0,
    downloadMs: 0,
    decompressMs: 0,
    keptFiles: 0,
    chunksFetched: 0,
  };

  constructor(options: RestoreOptions, plan: RestorePlan) {
    this.#options = options;
    this.#plan = plan;
    this.#folder = new TargetFolder(plan.place, (flaw) => this.#noteFlaws({ count: 1, listed: [flaw] }));
    this.#files = plan.entries.filter((entry) => entry.type === 'file');
    const patterns = [...(options.first ?? []), ...(plan.manifest.priority ?? [])];
    this.#hasPriority = patterns.length > 0;
    this.#turns = orderEntries(plan.entries, patterns);
    this.#priorityLeft = this.#files.filter((file) => this.#turnOf(file.path).stage === 'priority').length;
    this.#totalBytes = this.#files.reduce((sum, file) => sum + dataBytes(file), 0);
  }

  get flaws(): Flaws {
    return { count: this.#flawCount, listed: this.#flawList };
  }

  get readyMs(): { readonly priority: number | null; readonly all: number } {
    return { priority: this.#priorityMs, all: this.#allMs };
  }

  /** @returns how many paths were removed */
  async run(): Promise<number> {
    const { entries, place, manifest } = this.#plan;
    const { deleteExtra, memory } = this.#options;
    const survey = await this.#folder.survey(entries);
    await this.#checkSpace(survey);
    let removed = await this.#clearConflicts(survey.conflicts);
    const dirs = entries.filter((entry) => entry.type === 'dir');
    for (const dir of dirs) this.#folder.makeDir(dir, survey.existing.get(dir.path));
    try {
      await this.#restoreFiles(survey);
    } catch (error) {
      memory?.forget();
      throw error;
    } finally {
      for (const state of this.#states) state.discard(place);
      await this.#plan.cache?.close();
    }
    throwIfAborted(this.#options.signal);
    this.#makeLinks(this.#hasPriority ? ['small', 'large'] : ['priority', 'small', 'large']);
    // The rules that hold now are the snapshot's own.
    if (deleteExtra) removed += this.#folder.removeExtras(entries, await loadIgnoreRules(place.root));
    for (const dir of dirs.toReversed()) this.#folder.finishDir(dir);
    memory?.remember(place.root, this.#files, manifest);
    this.#allMs = this.#elapsedMs();
    this.#options.onReady?.('all');
    return removed;
  }

  async #checkSpace(survey: Survey): Promise<void> {
    const { root } = this.#plan.place;
    const { bavail, bsize } = await statfs(root);
    const reusable = this.#files.reduce(
      (sum, file) => sum + Math.min(dataBytes(file), Number(survey.existing.get(file.path)?.size ?? 0n)),
      0,
    );
    const needed = this.#totalBytes - reusable;
    if (needed <= bavail * bsize) return;
    throw new DumontError('LIMIT', `the snapshot needs ${needed} bytes in ${root}, there are ${bavail * bsize} free`, {
      hint: 'Restore to a larger disk, or a part of it with --include.',
    });
  }

  async #clearConflicts(conflicts: readonly string[]): Promise<number> {
    const first = conflicts[0];
    if (first === undefined) return 0;
    const { root } = this.#plan.place;
    const conflict = new DumontError(
      'CONFLICT',
      `${root}/${first} is in the way${conflicts.length > 1 ? `, and ${conflicts.length - 1} more` : ''}: ` +
        'one of snapshot and disk has a folder there, the other has not',
      { hint: 'Restore to an empty folder, or let it delete what the snapshot does not hold.' },
    );
    if (!this.#options.deleteExtra) throw conflict;
    const rules = await loadIgnoreRules(root);
    let removed = 0;
    for (const path of conflicts) removed += this.#folder.remove(path, rules);
    const left = await this.#folder.survey(this.#plan.entries);
    if (left.conflicts.length > 0) throw conflict;
    return removed;
  }

  async #restoreFiles(survey: Survey): Promise<void> {
    const { place } = this.#plan;
    const { secrets = null, clock, signal } = this.#options;
    const isThreaded = deservesThreads({ bytes: this.#totalBytes, files: this.#files.length });
    const setup = { place, coding: { secrets, effort: 'fast' } } as const;
    await using writers = new WriterPool(setup, { clock, isThreaded });
    const onAbort = () => void writers[Symbol.asyncDispose]();
    signal?.addEventListener('abort', onAbort, { once: true });
    using peer = this.#peerFor();
    try {
      const chunks = this.#missingChunks(writers, peer);
      if (this.#hasPriority && this.#priorityLeft === 0) this.#priorityReady();
      await this.#prepare(survey, writers, chunks);
      await chunks.fetch();
    } catch (error) {
      throwIfAborted(signal);
      throw error;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  #peerFor(): ChunkPeer | null {
    const { peer, clock, log, secrets = null } = this.#options;
    // The ids of an encrypted store are keyed: a peer knows its chunks by others.
    return peer === undefined || secrets !== null ? null : new ChunkPeer(peer, { clock, log });
  }

  #missingChunks(writers: WriterPool, peer: ChunkPeer | null): MissingChunks {
    const { manifest, place, cache } = this.#plan;
    const { store, clock, signal } = this.#options;
    const fetcher = new ChunkFetcher({ store, clock, cache, signal });
    const chunks: MissingChunks = new MissingChunks({
      manifest,
      place,
      cache,
      writers,
      fetcher,
      peer,
      clock,
      signal,
      onWritten: ({ bytesWritten, decodeMs, flaws, chunkCount }) => {
        this.counts.decompressMs += decodeMs;
        this.counts.chunksFetched += chunkCount;
        this.counts.bytesFetched = fetcher.bytesFetched;
        this.counts.bytesFromCache = fetcher.bytesFromCache;
        this.counts.bytesFromPeer = chunks.bytesFromPeer;
        this.counts.downloadMs = fetcher.downloadMs;
        this.#noteFlaws(flaws);
        this.#wrote(bytesWritten);
      },
      onFinished: (state) => this.#finished(state),
    });
    return chunks;
  }

  /** Keeps or copies what is on disk, makes empty files, and notes which chunks the others need. */
  async #prepare(survey: Survey, writers: WriterPool, chunks: MissingChunks): Promise<void> {
    const { manifest, entries } = this.#plan;
    const { memory, signal } = this.#options;
    const clearsAttributes = this.#givesAccessLists(survey);
    const links = new Map<string, number>();
    for (const entry of entries) {
      if (entry.type === 'hardlink') links.set(entry.target, (links.get(entry.target) ?? 0) + 1);
    }
    const present: FileToCheck[] = [];
    const absent: FileState[] = [];
    for (const entry of this.#files) {
      const state = new FileState(entry, this.#turnOf(entry.path), clearsAttributes);
      const stats = survey.existing.get(entry.path);
      const mayKeep = stats?.isFile() === true && this.#mayKeep(stats, 1 + (links.get(entry.path) ?? 0));
      if (mayKeep && stats !== undefined && memory?.isUnchanged(entry, manifest, stats) === true) {
        this.#keep(state);
        continue;
      }
      this.#states.push(state);
      if (stats?.isFile() === true) present.push({ state, mayKeep });
      else absent.push(state);
    }
    const steps = { writers, manifest, signal, onFlaws: (flaws: Flaws) => this.#noteFlaws(flaws) };
    await compareFiles(present, steps, (state, found) => {
      if (found.kind === 'kept') {
        this.#keep(state);
        return;
      }
      this.#wrote(found.copiedBytes);
      if (found.kind === 'replaced') {
        this.#finished(state);
        return;
      }
      state.isMade = found.isMade;
      state.missingBytes -= found.copiedBytes;
      if (state.missingBytes === 0) absent.push(state);
      else chunks.need(state, new Set(found.missing));
    });
    const empty = absent.filter((one) => one.missingBytes === 0);
    await makeEmptyFiles(empty, steps, (state) => this.#finished(state));
    for (const state of absent) if (state.missingBytes > 0) chunks.need(state, null);
  }

  /** True when an existing folder would give an access list to what is made in it. */
  #givesAccessLists({ existing }: Survey): boolean {
    if (givesAccessList(this.#plan.place.root)) return true;
    return this.#plan.entries.some(
      (entry) => entry.type === 'dir' && existing.has(entry.path) && givesAccessList(this.#folder.absolute(entry.path)),
    );
  }

  #makeLinks(stages: readonly Stage[]): void {
    for (const entry of this.#plan.entries) {
      if (entry.type !== 'hardlink' && entry.type !== 'symlink') continue;
      if (!stages.includes(this.#turnOf(entry.path).stage)) continue;
      if (entry.type === 'hardlink') this.#folder.makeHardlink(entry);
      else this.#folder.makeSymlink(entry);
    }
  }

  /** A file with other hard links than the snapshot's must be a new one, or changing it would change those. */
  #mayKeep(existing: BigIntStats, expectedLinks: number): boolean {
    const inode = `${existing.dev}:${existing.ino}`;
    if (this.#claimedInodes.has(inode) || Number(existing.nlink) !== expectedLinks) return false;
    this.#claimedInodes.add(inode);
    return true;
  }

  #keep(state: FileState): void {
    state.isDone = true;
    this.counts.keptFiles += 1;
    this.#advance(dataBytes(state.entry));
    this.#finished(state);
  }

  #wrote(bytes: number): void {
    this.counts.bytesWritten += bytes;
    this.#advance(bytes);
  }

  #finished(state: FileState): void {
    state.isDone = true;
    this.#doneFiles += 1;
    this.#advance(0);
    if (state.turn.stage !== 'priority') return;
    this.#priorityLeft -= 1;
    if (this.#priorityLeft === 0) this.#priorityReady();
  }

  #priorityReady(): void {
    this.#makeLinks(['priority']);
    this.#priorityMs = this.#elapsedMs();
    this.#options.onReady?.('priority');
  }

  #noteFlaws({ count, listed }: Flaws): void {
    this.#flawCount += count;
    this.#flawList.push(...listed.slice(0, MAX_LISTED_FLAWS - this.#flawList.length));
  }

  #elapsedMs(): number {
    return this.#options.clock.monotonicMs() - this.#plan.begunMs;
  }

  #turnOf(path: string): Turn {
    return must(this.#turns.get(path), 'everything but folders has its turn');
  }

  #advance(bytes: number): void {
    this.#doneBytes += bytes;
    this.#options.onProgress?.({
      doneBytes: this.#doneBytes,
      totalBytes: this.#totalBytes,
      doneFiles: this.#doneFiles,
      totalFiles: this.#files.length,
    });
  }
}
