import { lstat } from 'node:fs/promises';
import type { SnapshotId } from '@dumont/shared/model/ids.ts';
import type { Logger } from '@dumont/shared/node/logger.ts';
import { MAX_UNSAFE_PATHS, type LastWords } from '@dumont/shared/protocol/notice.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { Deadline } from '@dumont/shared/util/deadline.ts';
import { toDumontError } from '@dumont/shared/util/errors.ts';
import type { DirtyMark } from '../workspace/dirty-set.ts';
import type { Publisher } from './publisher.ts';

/** What one commit holds at first; each next one holds four times as much, so that there are few of them. */
const FIRST_BATCH_BYTES = 16 * 1024 * 1024;
const BATCH_GROWTH = 4;
/** Files of a size class go newest first; a class is four times as large as the one before. */
const FIRST_CLASS_BYTES = 64 * 1024;
/** With less than this left nothing can be uploaded and committed. */
const MIN_COMMIT_MS = 200;
/** A snapshot that runs when the time is told may take this share of it to end. */
const RUNNING_SHARE = 1 / 4;
/** Looked at at the same time. */
const STATS_AT_ONCE = 64;

/** A file that is in no snapshot as it is now. */
export interface UnsavedFile {
  readonly path: string;
  /** 0 for one that is gone. */
  readonly sizeBytes: number;
  readonly mtimeMs: number;
}

export interface FlushOptions {
  /** The workspace folder. */
  readonly root: string;
  readonly publisher: Pick<Publisher, 'yield' | 'unsavedPaths' | 'publishOnly' | 'publishNow'>;
  readonly withinMs: number;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Saves what can be saved before the machine goes: small files first, the newest of them first, in a few commits that
 * each count by themselves, then all the rest in one. What is not committed in time stays as it was in the snapshot
 * before. Never rejects.
 * @returns exactly what is safe, of all that was unsaved when it was called or became so since
 */
export async function flushWithin(options: FlushOptions): Promise<Omit<LastWords, 'standbyBehindBytes'>> {
  const { root, publisher, withinMs, clock, log } = options;
  const startMs = clock.monotonicMs();
  using deadline = new Deadline(clock, withinMs);
  let snapshotId: SnapshotId | null = null;
  let before: readonly UnsavedFile[] = [];
  try {
    await publisher.yield(withinMs * RUNNING_SHARE);
    before = await lookAt(root, unsavedBy(publisher));
    const leftMs = () => withinMs - (clock.monotonicMs() - startMs);
    for (const batch of planBatches(before)) {
      if (leftMs() < MIN_COMMIT_MS) break;
      const record = await publisher.publishOnly(new Set(batch.map(({ path }) => path)), deadline.signal);
      snapshotId = record?.snapshotId ?? snapshotId;
    }
    // Folders, and what the watcher did not name; also when nothing seems dirty, for it is a little behind the writes.
    if (leftMs() >= MIN_COMMIT_MS) {
      const rest = publisher.publishNow();
      void publisher.yield(leftMs());
      snapshotId = (await rest)?.snapshotId ?? snapshotId;
    }
  } catch (error) {
    log.error({ event: 'last-flush-cut-short', err: toDumontError(error) }, 'not everything could be saved in time');
  }
  const unsafePaths = unsavedBy(publisher);
  const unsafe = await lookAt(root, unsafePaths);
  const isUnsafe = new Set(unsafe.map(({ path }) => path));
  const safe = before.filter(({ path }) => !isUnsafe.has(path));
  return {
    safeFiles: safe.length,
    safeBytes: bytesOf(safe),
    unsafeFiles: unsafePaths === 'everything' ? null : unsafe.length,
    unsafeBytes: unsafePaths === 'everything' ? null : bytesOf(unsafe),
    unsafePaths: unsafe
      .toSorted((a, b) => b.mtimeMs - a.mtimeMs)
      .slice(0, MAX_UNSAFE_PATHS)
      .map(({ path }) => path),
    snapshotId,
    tookMs: clock.monotonicMs() - startMs,
  };
}

/** As they are now: the publisher's own lists go on changing. */
function unsavedBy({ unsavedPaths }: Pick<Publisher, 'unsavedPaths'>): DirtyMark['paths'] {
  const union = new Set<string>();
  for (const paths of unsavedPaths) {
    if (paths === 'everything') return paths;
    for (const path of paths) union.add(path);
  }
  return union;
}

/**
 * The order in which unsaved files are committed: by size class, the newest first within one; a batch is as large as all
 * before it together, three times over. Pure.
 */
export function planBatches(files: readonly UnsavedFile[]): readonly (readonly UnsavedFile[])[] {
  const ordered = files.toSorted((a, b) => classOf(a) - classOf(b) || b.mtimeMs - a.mtimeMs);
  const batches: UnsavedFile[][] = [];
  let roomBytes = 0;
  let limitBytes = FIRST_BATCH_BYTES / BATCH_GROWTH;
  for (const file of ordered) {
    const batch = batches.at(-1);
    if (batch !== undefined && file.sizeBytes <= roomBytes) {
      batch.push(file);
      roomBytes -= file.sizeBytes;
      continue;
    }
    limitBytes *= BATCH_GROWTH;
    roomBytes = Math.max(0, limitBytes - file.sizeBytes);
    batches.push([file]);
  }
  return batches;
}

function classOf({ sizeBytes }: UnsavedFile): number {
  return Math.max(0, Math.ceil(Math.log2(Math.max(1, sizeBytes) / FIRST_CLASS_BYTES) / 2));
}

/** Files and names that are gone; folders and the like have no content of their own. */
async function lookAt(root: string, paths: DirtyMark['paths']): Promise<readonly UnsavedFile[]> {
  if (paths === 'everything') return [];
  const waiting = [...paths];
  const found: UnsavedFile[] = [];
  while (waiting.length > 0) {
    const looks = waiting.splice(0, STATS_AT_ONCE).map((path) => look(root, path));
    for (const file of await Promise.all(looks)) if (file !== null) found.push(file);
  }
  return found;
}

async function look(root: string, path: string): Promise<UnsavedFile | null> {
  try {
    const stats = await lstat(`${root}/${path}`);
    return stats.isFile() || stats.isSymbolicLink() ? { path, sizeBytes: stats.size, mtimeMs: stats.mtimeMs } : null;
  } catch {
    return { path, sizeBytes: 0, mtimeMs: Infinity };
  }
}

function bytesOf(files: readonly UnsavedFile[]): number {
  return files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}
