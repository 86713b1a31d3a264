import { FORMAT_VERSION } from '@dumont/shared/format/layout.ts';
import type { ManifestRoot } from '@dumont/shared/format/manifest.ts';
import { checkTogether } from '@dumont/shared/format/manifest-check.ts';
import { newId, type SnapshotId, type WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { SnapshotRecord, SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { IndexWriter } from '../catalogue/index-store.ts';
import { loadLeftovers } from '../catalogue/leftovers.ts';
import { unsoundError, WriterSession, type Soundness } from '../catalogue/writer-session.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import { throwIfAborted } from '../storage/object-store.ts';
import type { DirtyMark } from '../workspace/dirty-set.ts';
import { loadIgnoreRules } from '../workspace/ignore.ts';
import { isSamePriority, loadPriority } from '../workspace/priority.ts';
import { scanWorkspace, type ScanResult } from '../workspace/scan.ts';
import { scanChanges, scanOnly, type ChangeScan } from './changed-paths.ts';
import { ChunkBook } from './chunk-book.ts';
import { DeltaBases } from './delta-bases.ts';
import { isSameTime } from './draft.ts';
import { HeldSnapshot, STATE_FIELDS, type HeldSegment, type HeldTree } from './held-snapshot.ts';
import { KnownLocations } from './known-locations.ts';
import { chunkIdsOf, holdSnapshot, idsOf, packsOf, type LoadedSnapshot } from './loaded-snapshot.ts';
import { isSameTree, mergeChanges, mergeScan } from './merge.ts';
import { readSnapshot, writeManifest } from './manifest-store.ts';
import type { ChunkLocation } from './pack-writer.ts';
import type { CodingOptions } from './planes/chunk-coder.ts';
import { countChunks, describeSegments, storeSegments } from './segment-writer.ts';
import type { SnapshotOutcome, SnapshotStats } from './snapshot-outcome.ts';
import type { StatCache } from './stat-cache.ts';
import { readTree, type TreeProgress, type TreeRead } from './tree-reader.ts';
import { WritePipeline } from './write-pipeline.ts';

/** Snapshots kept in memory: the parent and the last one made, which differ after a refused commit. */
const MAX_LOADED = 2;
/** A prune, and one more of which the first try did not know; a third says that the store is no good place now. */
const MAX_ATTEMPTS = 3;
/** Limits of the record's list of torn paths. */
const MAX_TORN_LISTED = 100;
const MAX_TORN_PATH_LENGTH = 4_096;

/**
 * After this time the whole folder is looked at once more, whatever is said to have changed: a watcher does not see
 * writes through memory maps, nor most changes of modes, owners and attributes.
 */
const MIN_TRUST_MS = 60_000;
/** Looking at all of a very large folder may take so large a part of the time, one in so many. */
const FULL_SCAN_SHARE = 50;

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
  /** What is remembered of inodes from one process to the next; nothing when absent. */
  readonly statCache?: StatCache | undefined;
  /** How chunks are coded; LZ4 and no encryption when absent. */
  readonly coding?: CodingOptions | undefined;
}

export interface CreateOptions {
  readonly epoch: number;
  /** The head the new snapshot builds on; null for the first. */
  readonly parent: SnapshotRef | null;
  /**
   * Everything that may have changed since the last `create` that ended well was called, as paths below the folder; all
   * of the folder when absent. Only a help: where it may not suffice, everything is looked at.
   */
  readonly changed?: DirtyMark['paths'] | undefined;
  /**
   * Files to take in, for when there is no time for all that changed: everything else stays as the parent has it. Where
   * that cannot be, as for hard links and without a parent, all of the folder is taken in.
   */
  readonly only?: ReadonlySet<string> | undefined;
  /** Of coding this snapshot's new chunks, when not that of the options. */
  readonly effort?: CodingOptions['effort'] | undefined;
  /** Called for every file; throttling is the caller's. */
  readonly onProgress?: ((progress: TreeProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

type Unsound = Exclude<Soundness, { kind: 'sound' }>;

/** A snapshot of which only segments and manifest are missing. */
interface Work {
  readonly snapshotId: SnapshotId;
  readonly session: WriterSession;
  readonly store: ObjectStore;
  readonly parent: LoadedSnapshot | null;
  readonly priority: readonly string[];
  readonly tree: TreeRead;
  readonly segments: readonly HeldSegment[];
  readonly moments: {
    readonly startedAtMs: number;
    readonly begunMs: number;
    readonly scannedMs: number;
    readonly readMs: number;
  };
  readonly pipeline: WritePipeline;
  readonly index: IndexWriter;
  readonly locate: (chunkId: string) => ChunkLocation | undefined;
}

/**
 * Makes snapshots of one folder. It uploads packs, then the manifest, and commits nothing: until its caller makes the
 * record the workspace's head, nothing refers to what was uploaded. Not reentrant: one `create` at a time.
 *
 * What it remembers only saves work. Files whose size, times and inode have not moved since they were read are not read
 * again; chunks and segments of the parent, or of the last snapshot made here, are not uploaded again. The result depends
 * on the folder and the given parent alone.
 */
export class Snapshotter {
  readonly #options: SnapshotterOptions;
  readonly #coding: CodingOptions;
  /** By manifest hash, least recently used first. */
  readonly #loaded = new Map<string, LoadedSnapshot>();
  readonly #book = new ChunkBook();
  /** The folder as the last `create` found it; null when that failed. */
  #base: HeldTree | null = null;
  #lastFullScan = { atMs: -Infinity, tookMs: 0 };
  #lastSeq = 0;

  constructor(options: SnapshotterOptions) {
    this.#options = options;
    this.#coding = options.coding ?? PLAIN;
  }

  /**
   * Takes a snapshot of the folder as it is now.
   * @throws {DumontError} IO when the folder cannot be read, CORRUPT or NOT_FOUND for the parent's manifest, UNAVAILABLE
   * when a prune takes away what it builds on, ABORTED, and whatever the store throws; nothing stays in flight
   */
  async create(options: CreateOptions): Promise<SnapshotOutcome> {
    const base = this.#base;
    this.#base = null;
    let avoid: ReadonlySet<string> = new Set();
    try {
      for (let attempt = 1; ; attempt += 1) {
        const result = await this.#attempt(options, { base, avoid });
        // The rest of the folder was not looked at.
        if (options.only !== undefined) this.#base = null;
        if (!('unsound' in result)) return result;
        const { unsound } = result;
        if (unsound.kind === 'forgotten' || attempt === MAX_ATTEMPTS) throw unsoundError(unsound);
        avoid = new Set([...avoid, ...unsound.packIds]);
      }
    } finally {
      for (const { held } of this.#loaded.values()) held.rest();
    }
  }

  /** @param avoid packs that a prune deletes: what lies in them is stored again */
  async #attempt(
    options: CreateOptions,
    { base, avoid }: { readonly base: HeldTree | null; readonly avoid: ReadonlySet<string> },
  ): Promise<SnapshotOutcome | { readonly unsound: Unsound }> {
    const { root, clock } = this.#options;
    const { signal } = options;
    const startedAtMs = clock.nowMs();
    const begunMs = clock.monotonicMs();
    const snapshotId = newId('snapshot');
    await using session = this.#session(snapshotId, signal);
    const store = session.guard(this.#options.store);
    const isFresh = this.#loaded.size === 0;
    const parent = options.parent === null ? null : await this.#load(options.parent, signal);
    const priority = await loadPriority(root);
    const scan = await this.#look(options, parent, avoid.size === 0 ? base : null);
    const scannedMs = clock.monotonicMs();

    const parentKey = options.parent?.manifestKey ?? null;
    const leftovers = isFresh ? await loadLeftovers(store, session, { parentKey, signal }) : null;
    const known = new KnownLocations(this.#book, leftovers, avoid);
    await using index = new IndexWriter(store, { signal });
    const { onPackStored } = index;
    const coding = { ...this.#coding, effort: options.effort ?? this.#coding.effort };
    await using pipeline = new WritePipeline({ store, coding, known, clock, onPackStored, signal });
    const locate = (chunkId: string) => pipeline.locate(chunkId) ?? known.locate(chunkId);
    const tree = await readTree({
      root,
      scan,
      startedAtMs,
      parent: parent?.held ?? null,
      memory: base?.held ?? null,
      bases: parent === null ? null : new DeltaBases(root, parent.held, locate),
      pipeline,
      isStored: (chunkId) => known.has(chunkId),
      onProgress: options.onProgress,
    });
    throwIfAborted(signal);
    const moments = { startedAtMs, begunMs, scannedMs, readMs: clock.monotonicMs() };

    const segments =
      'dropped' in scan && parent !== null
        ? mergeChanges(parent.held, scan, tree)
        : mergeScan(parent?.held ?? null, tree);
    if (parent !== null && isSameTree(segments, parent.held) && isSamePriority(priority, parent.priority)) {
      const ref = must(options.parent, 'there is a parent');
      await this.#settle(ref, { ...parent, held: new HeldSnapshot(segments) }, tree);
      return { kind: 'unchanged', tornPaths: tree.tornPaths, skipped: tree.skipped };
    }
    const stored = known.soundOnly(segments);
    const work = { snapshotId, session, store, parent, priority, tree, moments, pipeline, index, locate };
    // Awaited here: what this call owns must last until it ends.
    return await this.#conclude(options, { ...work, segments: stored });
  }

  /** Stores what is left of a snapshot, the manifest last. */
  async #conclude(options: CreateOptions, work: Work): Promise<SnapshotOutcome | { readonly unsound: Unsound }> {
    const { snapshotId, session, store, parent, priority, tree, moments, pipeline, index, locate } = work;
    const { signal } = options;
    const { newBytes, newChunkCount } = pipeline;
    const held = new HeldSnapshot(await storeSegments(work.segments, { pipeline, locate }));
    await pipeline.finish();
    await index.finish();
    throwIfAborted(signal);
    const { startedAtMs } = moments;
    const seq = Math.max(parent?.seq ?? 0, this.#lastSeq) + 1;
    const facts = { snapshotId, startedAtMs, seq, priority, ...describeSegments(held, locate) };
    const manifest = this.#rootOf(options, facts);
    const packs = packsOf(manifest.packs, held);
    const soundness = await session.check({
      packIds: packs,
      manifestKeys: options.parent === null ? [] : [options.parent.manifestKey],
      vouched: [pipeline.storedPacks, ...(parent === null ? [] : [parent.packs])],
    });
    if (soundness.kind !== 'sound') return { unsound: soundness };
    const { secrets } = this.#coding;
    const { ref, storedBytes } = await session.commit(() => writeManifest(store, manifest, { secrets, signal }));
    this.#lastSeq = seq;
    this.#learn(held, locate);
    await this.#settle(ref, { held, seq, priority, packs }, tree);
    const endedMs = this.#options.clock.monotonicMs();
    const { tornPaths, skipped } = tree;
    const record: SnapshotRecord = {
      ...ref,
      parentId: options.parent?.snapshotId ?? null,
      startedAtMs,
      createMs: endedMs - moments.begunMs,
      fileCount: manifest.counts.files,
      totalBytes: manifest.counts.bytes,
      newBytes,
      storedBytes: pipeline.storedBytes + storedBytes,
      tornPaths: tornPaths.slice(0, MAX_TORN_LISTED).map((path) => path.slice(0, MAX_TORN_PATH_LENGTH)),
    };
    const stats: SnapshotStats = {
      scanMs: moments.scannedMs - moments.begunMs,
      readMs: moments.readMs - moments.scannedMs,
      manifestMs: endedMs - moments.readMs,
      chunkCount: countChunks(held),
      newChunkCount,
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
    const states = new Map(loaded.held.segments.map((segment) => [segment, segment.states.slice()]));
    for (const { path, type, size, mtimeNs, ctimeNs, ino, dev } of scan.entries) {
      const found = type === 'file' ? loaded.held.find(path) : undefined;
      if (found?.draft.type !== 'file' || BigInt(found.draft.size) !== size) continue;
      if (!isSameTime(BigInt(found.draft.mtimeNs), mtimeNs)) continue;
      states.get(found.segment)?.set([ctimeNs, ino, dev], found.index * STATE_FIELDS);
    }
    const segments = Array.from(states, ([segment, known]) => ({ ...segment, states: known }));
    const held = new HeldSnapshot(segments);
    held.rest();
    this.#remember(ref, { ...loaded, held });
  }

  /** Looks at what may have changed where that is known to suffice, else at everything. */
  async #look(
    { changed = 'everything', only, signal }: CreateOptions,
    parent: LoadedSnapshot | null,
    base: HeldTree | null,
  ): Promise<ScanResult | ChangeScan> {
    const { root, clock } = this.#options;
    const rules = await loadIgnoreRules(root);
    const few = only === undefined || parent === null ? null : await scanOnly({ root, rules, held: parent.held, only });
    if (few !== null) return few;
    const nowMs = clock.monotonicMs();
    const trustMs = Math.max(MIN_TRUST_MS, FULL_SCAN_SHARE * this.#lastFullScan.tookMs);
    const isTrusted = base !== null && parent?.held === base.held && nowMs - this.#lastFullScan.atMs <= trustMs;
    if (changed !== 'everything' && isTrusted) {
      const changes = await scanChanges({ root, rules, base, changed, signal });
      if (changes !== null) return changes;
    }
    const scan = await scanWorkspace(root, rules, { signal });
    this.#lastFullScan = { atMs: nowMs, tookMs: clock.monotonicMs() - nowMs };
    return scan;
  }

  #session(snapshotId: SnapshotId, signal: AbortSignal | undefined): WriterSession {
    const { store, workspaceId, writerId, toolVersion, clock } = this.#options;
    const tool = `dumont-agent/${toolVersion}`;
    return new WriterSession({ store, snapshotId, workspaceId, writerId, tool, clock, signal });
  }

  #rootOf(
    options: CreateOptions,
    {
      priority,
      ...facts
    }: Pick<ManifestRoot, 'snapshotId' | 'startedAtMs' | 'seq' | 'counts' | 'packs' | 'chunks' | 'segments'> & {
      readonly priority: readonly string[];
    },
  ): ManifestRoot {
    const { workspaceId, writerId, toolVersion } = this.#options;
    return {
      formatVersion: FORMAT_VERSION,
      tool: `dumont-agent/${toolVersion}`,
      workspaceId,
      writerId,
      epoch: options.epoch,
      parent: options.parent,
      ...(priority.length === 0 ? {} : { priority }),
      ...facts,
    };
  }

  /** Takes note of the chunks of segments that are new in the store. */
  #learn(held: HeldSnapshot, locate: (chunkId: string) => ChunkLocation | undefined): void {
    const learn = (chunkId: string) => {
      if (this.#book.has(chunkId)) return;
      const at = must(locate(chunkId), 'what a manifest refers to is stored');
      this.#book.add(at);
      if (at.baseId !== undefined) learn(at.baseId);
    };
    const known = new Set([...this.#loaded.values()].flatMap((one) => one.held.segments.map(({ entries }) => entries)));
    for (const segment of held.segments) {
      if (known.has(segment.entries)) continue;
      for (const chunkId of chunkIdsOf(segment)) learn(chunkId);
    }
  }

  /** The folder is now known to be as a snapshot says. */
  async #settle(ref: SnapshotRef, loaded: LoadedSnapshot, { skipped, revisit }: TreeRead): Promise<void> {
    await this.#options.statCache?.save(ref.manifestHash, loaded.held);
    this.#remember(ref, loaded);
    this.#base = { held: loaded.held, skipped: skipped.filter((one) => one.kind !== 'unreadable'), revisit };
    const snapshots = [...this.#loaded.values()];
    const usedCount = snapshots.reduce((sum, { held }) => sum + countChunks(held) + held.segments.length, 0);
    this.#book.trim(idsOf(snapshots), usedCount);
  }

  async #load(ref: SnapshotRef, signal: AbortSignal | undefined): Promise<LoadedSnapshot> {
    const known = this.#loaded.get(ref.manifestHash);
    const loaded = known ?? (await this.#fetch(ref, signal));
    this.#remember(ref, loaded);
    return loaded;
  }

  async #fetch(ref: SnapshotRef, signal: AbortSignal | undefined): Promise<LoadedSnapshot> {
    const { store, statCache } = this.#options;
    const stored = await readSnapshot(store, ref, { secrets: this.#coding.secrets, signal });
    checkTogether(stored.root, stored.segments);
    this.#book.addTable(stored.root);
    for (const segment of stored.segments) this.#book.addTable(segment);
    const held = holdSnapshot(stored);
    const remembered = await statCache?.load(ref.manifestHash, held);
    const packs = packsOf(stored.root.packs, held);
    return { held: remembered ?? held, seq: stored.root.seq, priority: stored.root.priority ?? [], packs };
  }

  #remember(ref: SnapshotRef, loaded: LoadedSnapshot): void {
    this.#loaded.delete(ref.manifestHash);
    this.#loaded.set(ref.manifestHash, loaded);
    for (const hash of this.#loaded.keys()) {
      if (this.#loaded.size <= MAX_LOADED) return;
      this.#loaded.delete(hash);
    }
  }
}
