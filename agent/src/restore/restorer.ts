import { mkdir, realpath } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { RestoreResult } from '@dumont/shared/protocol/command.ts';
import type { SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import type { PeerPlace } from '../peer/chunk-peer.ts';
import { readManifest } from '../snapshot/manifest-store.ts';
import type { StoreSecrets } from '../snapshot/seal.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { ChunkCache, type ChunkCacheOptions } from './chunk-cache.ts';
import { mayChangeOwners } from './metadata.ts';
import type { Flaws } from './orders.ts';
import type { RestoreMemory } from './restore-memory.ts';
import { Restore } from './restore.ts';
import { selectEntries } from './select.ts';

export interface RestoreProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
  readonly doneFiles: number;
  readonly totalFiles: number;
}

/** Parts of a restore that are announced: everything that was asked for first, everything. */
export type ReadyPart = 'priority' | 'all';

export interface RestoreOptions {
  readonly store: ObjectStore;
  readonly snapshot: SnapshotRef;
  /** The folder; made when absent. */
  readonly target: string;
  readonly clock: Clock;
  /** A glob or path below the folder, or a set of paths; only what matches, and the folders leading there, is restored. */
  readonly include?: string | ReadonlySet<string> | undefined;
  /** Remove what the snapshot does not hold. What no snapshot can hold stays: ignored paths, sockets and the like. */
  readonly deleteExtra: boolean;
  /** Patterns in gitignore syntax of what to restore first; they come before those of the snapshot. */
  readonly first?: readonly string[] | undefined;
  /** False leaves everything to the user who runs this, even when that is root. */
  readonly owners?: boolean | undefined;
  /** Frames fetched are kept there, and not fetched again. */
  readonly cache?: ChunkCacheOptions | undefined;
  /** Whoever else has chunks of the snapshot: it and the store race. Not used where the store is encrypted. */
  readonly peer?: PeerPlace | undefined;
  readonly log?: Logger | undefined;
  /** What earlier restores into the same folder learned; updated. */
  readonly memory?: RestoreMemory | undefined;
  /** Called for every part of some MiB and every batch of files; throttling is the caller's. */
  readonly onProgress?: ((progress: RestoreProgress) => void) | undefined;
  /** Called once for each part when it is in its place; `priority` only where patterns name one. */
  readonly onReady?: ((part: ReadyPart) => void) | undefined;
  /** Keys of an encrypted store. */
  readonly secrets?: StoreSecrets | null | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface RestoreOutcome extends Omit<RestoreResult, 'hookMs' | 'bytesFromPeer'> {
  /** Bytes that came from a peer. */
  readonly bytesFromPeer: number;
  /** Files that were there already, byte for byte. */
  readonly keptFileCount: number;
  /** Paths removed by `deleteExtra`. */
  readonly removedCount: number;
  readonly chunksFetched: number;
  /** Bytes that came from the local cache. */
  readonly bytesFromCache: number;
  /** Extended attributes that the system refused: `path: name: reason`. */
  readonly attributeFlaws: Flaws;
  /** When each part was in its place; null when no pattern named one. */
  readonly readyMs: { readonly priority: number | null; readonly all: number };
}

/**
 * Makes a folder hold a snapshot. Every chunk is checked against its id before it is written, every file appears whole
 * under its name or not at all, and what is on disk already is not fetched again; so running it again after it was
 * stopped, even by a kill, completes it. Owners are restored when running as root, times to within a microsecond;
 * extended attributes where the system lets it, and what it refuses is reported.
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
  const { clock } = options;
  const begunMs = clock.monotonicMs();
  const { manifest, storedBytes } = await readManifest(options.store, options.snapshot, {
    secrets: options.secrets,
    signal: options.signal,
  });
  const entries = selectEntries(manifest.entries, options.include);
  const root = await openTarget(options.target);
  const cache = options.cache === undefined ? null : await ChunkCache.open(options.cache, clock);
  const place = { root, owners: options.owners !== false && mayChangeOwners() };
  const restore = new Restore(options, { manifest, entries, place, cache, begunMs });
  const removedCount = await restore.run();
  const { counts } = restore;
  return {
    snapshotId: options.snapshot.snapshotId,
    fileCount: entries.filter((entry) => entry.type === 'file' || entry.type === 'hardlink').length,
    bytesWritten: counts.bytesWritten,
    bytesFetched: counts.bytesFetched + storedBytes,
    totalMs: clock.monotonicMs() - begunMs,
    downloadMs: counts.downloadMs,
    decompressMs: counts.decompressMs,
    keptFileCount: counts.keptFiles,
    removedCount,
    chunksFetched: counts.chunksFetched,
    bytesFromCache: counts.bytesFromCache,
    bytesFromPeer: counts.bytesFromPeer,
    attributeFlaws: restore.flaws,
    readyMs: restore.readyMs,
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
