import { realpath, rm } from 'node:fs/promises';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Manifest } from '@dumont/shared/format/manifest.ts';
import { MERGE_OUTCOMES, type MergeOutcome, type MergeStrategy } from '@dumont/shared/model/branch.ts';
import type { BranchId } from '@dumont/shared/model/ids.ts';
import type { MergedPath, MergeResult } from '@dumont/shared/protocol/branch.ts';
import type { SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { mayChangeOwners } from '../restore/metadata.ts';
import { restoreSnapshot, type RestoreProgress } from '../restore/restorer.ts';
import { readManifest } from '../snapshot/manifest-store.ts';
import type { StoreSecrets } from '../snapshot/seal.ts';
import { throwIfAborted, type ObjectStore } from '../storage/object-store.ts';
import { TEMP_FILE_PREFIX } from '../workspace/ignore.ts';
import { Placer } from './placer.ts';
import { planMerge, type MergeStep } from './plan-merge.ts';
import { listed } from './summarize.ts';
import { treeOf } from './tree.ts';

/** Steps before others get their turn: about 10 ms. */
const STEPS_PER_TURN = 200;

export interface MergeBranchOptions {
  readonly store: ObjectStore;
  /** Keys of each snapshot; null in a store in clear. */
  readonly secretsFor: (ref: SnapshotRef) => Promise<StoreSecrets | null>;
  /** The workspace folder. */
  readonly root: string;
  readonly clock: Clock;
  readonly branchId: BranchId;
  readonly branch: SnapshotRef;
  readonly base: SnapshotRef | null;
  /** The workspace as it is now, or was a moment ago. */
  readonly head: SnapshotRef | null;
  readonly strategy: MergeStrategy;
  readonly paths?: readonly string[] | undefined;
  readonly onProgress?: ((progress: RestoreProgress) => void) | undefined;
  readonly signal: AbortSignal;
}

export type FolderMerge = Pick<MergeResult, 'counts' | 'bytesWritten' | 'paths'>;

/**
 * Brings what differs in a branch from its base into a folder in which work goes on. The branch's files are restored
 * beside the others first, every chunk checked; then each gets its name, by what {@link planMerge} says. Running it
 * again, also after it was stopped half-way, completes it and changes nothing that is done.
 * @throws {DumontError} before anything of the folder changes: NOT_FOUND or CORRUPT for what the store holds, LIMIT when
 * the disk is too small. Later: IO, ABORTED; what has its name by then keeps it.
 */
export async function mergeBranch(options: MergeBranchOptions): Promise<FolderMerge> {
  const { strategy, paths, branchId, signal } = options;
  const root = await realpath(options.root);
  const manifest = await readOf(options, options.branch);
  const base = treeOf(options.base === null ? null : await readOf(options, options.base));
  const workspace = treeOf(options.head === null ? null : await readOf(options, options.head));
  const branch = treeOf(manifest);
  const steps = planMerge({ base, branch, workspace, strategy, paths });
  const wanted = new Set(
    steps.filter(isBrought).flatMap(({ path }) => (branch.get(path)?.type === 'dir' ? [] : [path])),
  );
  const dirs = new Map(
    manifest.entries.flatMap((entry) => (entry.type === 'dir' ? [[entry.path, entry] as const] : [])),
  );
  // No snapshot, no sync and no watcher looks at it, and it is in the file system of the folder.
  const staging = `${root}/${TEMP_FILE_PREFIX}${branchId}`;
  const owners = mayChangeOwners();
  await rm(staging, { recursive: true, force: true });
  try {
    const bytesWritten = await stage(options, staging, wanted);
    const placer = new Placer({ root, staging, branchId, branch, dirs, workspace, strategy, owners });
    const merged = await placeAll(placer, steps, signal);
    return { bytesWritten, ...report(merged) };
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

function isBrought({ action }: MergeStep): boolean {
  return action === 'take' || action === 'beside';
}

async function readOf({ store, secretsFor, signal }: MergeBranchOptions, ref: SnapshotRef): Promise<Manifest> {
  const secrets = await secretsFor(ref);
  return (await readManifest(store, ref, { secrets, signal })).manifest;
}

async function stage(options: MergeBranchOptions, target: string, include: ReadonlySet<string>): Promise<number> {
  if (include.size === 0) return 0;
  const { store, branch: snapshot, clock, onProgress, signal } = options;
  const secrets = await options.secretsFor(snapshot);
  const order = { store, snapshot, target, clock, include, deleteExtra: false, secrets, onProgress, signal };
  return (await restoreSnapshot(order)).bytesWritten;
}

async function placeAll(placer: Placer, steps: readonly MergeStep[], signal: AbortSignal): Promise<MergedPath[]> {
  const merged: MergedPath[] = [];
  // What lies in a folder goes before the folder.
  const deletions = steps.filter(({ action }) => action === 'delete').toReversed();
  for (const step of [...steps.filter(({ action }) => action !== 'delete'), ...deletions]) {
    if (merged.length % STEPS_PER_TURN === STEPS_PER_TURN - 1) await nextTurn();
    throwIfAborted(signal);
    merged.push(placer.place(step));
  }
  placer.finish();
  return merged;
}

/** What people want to look at comes first. */
const LISTED_FIRST: readonly MergeOutcome[] = ['beside', 'kept', 'deleted', 'taken', 'same'];

function report(merged: readonly MergedPath[]): Pick<FolderMerge, 'counts' | 'paths'> {
  const counts = Object.fromEntries(
    MERGE_OUTCOMES.map((outcome) => [outcome, merged.filter((one) => one.outcome === outcome).length]),
  ) as Record<MergeOutcome, number>;
  const ordered = LISTED_FIRST.flatMap((outcome) => merged.filter((one) => one.outcome === outcome));
  return { counts, paths: listed(ordered) };
}
