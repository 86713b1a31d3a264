import type { Manifest } from '@dumont/shared/format/manifest.ts';
import { FORMAT_VERSION, manifestKey } from '@dumont/shared/format/layout.ts';
import { newId, type SnapshotId, type WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { SnapshotRecord, SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { IndexWriter } from '../catalogue/index-store.ts';
import { loadLeftovers } from '../catalogue/leftovers.ts';
import { unsoundError, WriterSession, type Soundness } from '../catalogue/writer-session.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import { throwIfAborted } from '../storage/object-store.ts';
import { loadIgnoreRules } from '../workspace/ignore.ts';
import { scanWorkspace, type SkippedPath } from '../workspace/scan.ts';
import { buildTables, equalsParent, isSameTime } from './draft.ts';
import { KnownLocations } from './known-locations.ts';
import { LoadedManifest } from './loaded-manifest.ts';
import { readManifest, writeManifest } from './manifest-store.ts';
import type { CodingOptions } from './planes/chunk-coder.ts';
import { readTree, type CachedFile, type TreeProgress, type TreeRead } from './tree-reader.ts';
import { WritePipeline } from './write-pipeline.ts';

/** Manifests kept in memory: the parent and the last one made, which differ after a refused commit. */
const MAX_LOADED = 2;
/** A prune, and one more of which the first try did not know; a third says that the store is no good place now. */
const MAX_ATTEMPTS = 3;
/** Limits of the record's list of torn paths. */
const MAX_TORN_LISTED = 100;
const MAX_TORN_PATH_LENGTH = 4_096;

const PLAIN: CodingOptions = { secrets: null, effort: 'fast' };

export interface SnapshotterOptions {
  readonly store: ObjectStore;
  /** The workspace folder. */
  readonly root: string;
  readonly workspaceId: WorkspaceId;
  /** `[a-z0-9_]{1,64}`; an instance id is one. */
  readonly writerId: string;
  readonly clock: Clock;
  readonly toolVersion: string;
  /** How chunks are coded; LZ4 and no encryption when absent. */
  readonly coding?: CodingOptions | undefined;
}

export interface CreateOptions {
  readonly epoch: number;
  /** The head the new snapshot builds on; null for the first. */
  readonly parent: SnapshotRef | null;
  /** Called for every file; throttling is the caller's. */
  readonly onProgress?: ((progress: TreeProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Where the time and the bytes of a snapshot went. */
export interface SnapshotStats {
  readonly scanMs: number;
  /** Reading, hashing, compressing and uploading chunks, which overlap. */
  readonly readMs: number;
  readonly manifestMs: number;
  readonly chunkCount: number;
  readonly newChunkCount: number;
}

/** What is not in the snapshot as it is on disk; both empty in the good case. */
interface SnapshotFlaws {
  /** Files that changed too fast: the parent's version was kept, or, without one, the mixed content flagged. */
  readonly tornPaths: readonly string[];
  readonly skipped: readonly SkippedPath[];
}

/** `unchanged`: a snapshot would hold exactly the parent's entries. Flaws are reported even then. */
export type SnapshotOutcome =
  | (SnapshotFlaws & { readonly kind: 'unchanged' })
  | (SnapshotFlaws & { readonly kind: 'created'; readonly record: SnapshotRecord; readonly stats: SnapshotStats });

type Unsound = Exclude<Soundness, { kind: 'sound' }>;

/**
 * Makes snapshots of one folder. It uploads packs, then the manifest, and commits nothing: until its caller makes the
 * record the workspace's head, nothing refers to what was uploaded. Not reentrant: one `create` at a time.
 *
 * What it remembers only saves work. Files whose size, times and inode have not moved since they were read are not read
 * again; chunks of the parent, or of the last snapshot made here, are not uploaded again. The result depends on the
 * folder and the given parent alone.
 */
export class Snapshotter {
  readonly #options: SnapshotterOptions;
  readonly #cache = new Map<string, CachedFile>();
  /** By manifest hash, least recently used first. */
  readonly #loaded = new Map<string, LoadedManifest>();
  #lastSeq = 0;

  constructor(options: SnapshotterOptions) {
    this.#options = options;
  }

  /**
   * Takes a snapshot of the folder as it is now.
   * @throws {DumontError} IO when the folder cannot be read, CORRUPT or NOT_FOUND for the parent's manifest, ABORTED,
   * and whatever the store throws; nothing stays in flight
   */
  async create(options: CreateOptions): Promise<SnapshotOutcome> {
    let avoid: ReadonlySet<string> = new Set();
    for (let attempt = 1; ; attempt += 1) {
      const result = await this.#attempt(options, avoid);
      if (!('unsound' in result)) return result;
      const { unsound } = result;
      const isHopeless =
        unsound.kind === 'forgotten' && unsound.manifestKeys.includes(options.parent?.manifestKey ?? '');
      if (isHopeless || attempt === MAX_ATTEMPTS) throw unsoundError(unsound);
      if (unsound.kind === 'condemned') avoid = new Set([...avoid, ...unsound.packIds]);
      else this.#forget(new Set(unsound.manifestKeys));
    }
  }

  /** @param avoid packs that a prune is about to delete: their chunks are stored again */
  async #attempt(
    options: CreateOptions,
    avoid: ReadonlySet<string>,
  ): Promise<SnapshotOutcome | { readonly unsound: Unsound }> {
    const { root, clock } = this.#options;
    const { signal, onProgress } = options;
    const startedAtMs = clock.nowMs();
    const begunMs = clock.monotonicMs();
    const snapshotId = newId('snapshot');
    await using session = this.#session(snapshotId, signal);
    const store = session.guard(this.#options.store);
    const isFresh = this.#loaded.size === 0;
    const parent = options.parent === null ? null : await this.#load(options.parent, signal);
    const scan = await scanWorkspace(root, await loadIgnoreRules(root), { signal });
    const scannedMs = clock.monotonicMs();

    const parentKey = options.parent?.manifestKey ?? null;
    const leftovers = isFresh ? await loadLeftovers(store, session, { parentKey, signal }) : null;
    const loaded = [...this.#loaded.values()];
    const known = new KnownLocations(loaded, leftovers, avoid);
    await using index = new IndexWriter(store, { signal });
    await using pipeline = new WritePipeline({
      store,
      coding: this.#options.coding ?? PLAIN,
      known,
      clock,
      onPackStored: index.onPackStored,
      signal,
    });
    const cache = this.#cache;
    const isStored = (chunkId: string) => known.has(chunkId);
    const tree = await readTree({ root, scan, parent, cache, pipeline, isStored, onProgress, signal });
    await pipeline.finish();
    await index.finish();
    throwIfAborted(signal);
    const readMs = clock.monotonicMs();

    const { tornPaths, skipped } = tree;
    if (parent !== null && equalsParent(tree.drafts, parent)) return { kind: 'unchanged', tornPaths, skipped };
    const manifest = this.#assemble(tree, options, {
      snapshotId,
      startedAtMs,
      seq: Math.max(parent?.manifest.seq ?? 0, this.#lastSeq) + 1,
      locate: (chunkId) => pipeline.locate(chunkId) ?? known.locate(chunkId),
    });
    const manifestKeys = loaded.map((one) => manifestKey(one.manifest));
    const soundness = await session.check({ packIds: manifest.packs, manifestKeys });
    if (soundness.kind !== 'sound') return { unsound: soundness };
    const { ref, storedBytes } = await session.commit(() => writeManifest(store, manifest, { signal }));
    this.#lastSeq = manifest.seq;
    this.#remember(ref, new LoadedManifest(manifest));
    const endedMs = clock.monotonicMs();
    const { newBytes, storedBytes: packBytes } = pipeline;
    const record: SnapshotRecord = {
      ...ref,
      ...describeContent(manifest, tornPaths),
      parentId: options.parent?.snapshotId ?? null,
      startedAtMs,
      createMs: endedMs - begunMs,
      newBytes,
      storedBytes: packBytes + storedBytes,
    };
    const stats: SnapshotStats = {
      scanMs: scannedMs - begunMs,
      readMs: readMs - scannedMs,
      manifestMs: endedMs - readMs,
      chunkCount: manifest.chunks.length,
      newChunkCount: pipeline.newChunkCount,
    };
    return { kind: 'created', record, stats, tornPaths, skipped };
  }

  /**
   * Tells that the folder was just made equal to this snapshot, before anything else could write to it: files whose size
   * and modification time are the snapshot's need not be read by the next `create`. Wrong use loses changes; when in
   * doubt, leave it out.
   */
  async adopt(ref: SnapshotRef, options: CallOptions = {}): Promise<void> {
    const { root } = this.#options;
    const loaded = await this.#load(ref, options.signal);
    const scan = await scanWorkspace(root, await loadIgnoreRules(root), options);
    for (const { path, type, stats } of scan.entries) {
      const file = type === 'file' ? loaded.file(path) : undefined;
      if (file === undefined || BigInt(file.size) !== stats.size) continue;
      if (!isSameTime(BigInt(file.mtimeNs), stats.mtimeNs)) continue;
      const { size, mtimeNs, ctimeNs, ino, dev } = stats;
      this.#cache.set(path, { state: { size, mtimeNs, ctimeNs, ino, dev }, chunkIds: loaded.chunkIds(file) });
    }
  }

  #assemble(
    tree: TreeRead,
    options: CreateOptions,
    facts: {
      readonly snapshotId: SnapshotId;
      readonly startedAtMs: number;
      readonly seq: number;
      readonly locate: Parameters<typeof buildTables>[1];
    },
  ): Manifest {
    const { workspaceId, writerId, toolVersion } = this.#options;
    return {
      formatVersion: FORMAT_VERSION,
      tool: `dumont-agent/${toolVersion}`,
      workspaceId,
      snapshotId: facts.snapshotId,
      writerId,
      epoch: options.epoch,
      seq: facts.seq,
      parent: options.parent,
      startedAtMs: facts.startedAtMs,
      ...buildTables(tree.drafts, facts.locate),
    };
  }

  #session(snapshotId: SnapshotId, signal: AbortSignal | undefined): WriterSession {
    const { store, workspaceId, writerId, toolVersion, clock } = this.#options;
    const tool = `dumont-agent/${toolVersion}`;
    return new WriterSession({ store, snapshotId, workspaceId, writerId, tool, clock, signal });
  }

  #forget(manifestKeys: ReadonlySet<string>): void {
    for (const [hash, { manifest }] of this.#loaded) {
      if (manifestKeys.has(manifestKey(manifest))) this.#loaded.delete(hash);
    }
  }

  async #load(ref: SnapshotRef, signal: AbortSignal | undefined): Promise<LoadedManifest> {
    const known = this.#loaded.get(ref.manifestHash);
    const loaded = known ?? new LoadedManifest((await readManifest(this.#options.store, ref, { signal })).manifest);
    this.#remember(ref, loaded);
    return loaded;
  }

  #remember(ref: SnapshotRef, loaded: LoadedManifest): void {
    this.#loaded.delete(ref.manifestHash);
    this.#loaded.set(ref.manifestHash, loaded);
    for (const hash of this.#loaded.keys()) {
      if (this.#loaded.size <= MAX_LOADED) return;
      this.#loaded.delete(hash);
    }
  }
}

function describeContent({ entries }: Manifest, tornPaths: readonly string[]) {
  return {
    fileCount: entries.filter((entry) => entry.type === 'file' || entry.type === 'hardlink').length,
    totalBytes: entries.reduce((sum, entry) => sum + (entry.type === 'file' ? entry.size : 0), 0),
    tornPaths: tornPaths.slice(0, MAX_TORN_LISTED).map((path) => path.slice(0, MAX_TORN_PATH_LENGTH)),
  };
}
