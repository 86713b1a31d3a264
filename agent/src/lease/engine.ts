import type { BranchSummary } from '@dumont/shared/protocol/branch.ts';
import type { RestoreResult } from '@dumont/shared/protocol/command.ts';
import type { Assignment } from '@dumont/shared/protocol/hello.ts';
import type { SnapshotRecord, SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import type { StorageGrant } from '@dumont/shared/protocol/storage-grant.ts';
import type { FolderCheck } from '@dumont/shared/protocol/trial.ts';
import type { FolderMerge, MergeBranchOptions } from '../branches/merge-branch.ts';
import type { PeerPlace } from '../peer/chunk-peer.ts';
import type { DirtyMark } from '../workspace/dirty-set.ts';
import type { WatchIgnore } from '../workspace/watch.ts';

/** Work done so far; totals may grow while the work discovers more. */
interface WorkProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
  readonly doneFiles: number;
  readonly totalFiles: number;
}

export interface WorkOptions {
  readonly onProgress: (progress: WorkProgress) => void;
  readonly signal: AbortSignal;
}

/** `tornPaths` changed while they were read, so their newest content is in no snapshot yet. */
export type CreateOutcome = { readonly tornPaths: readonly string[] } & (
  | { readonly kind: 'unchanged' }
  | { readonly kind: 'created'; readonly record: SnapshotRecord }
);

/** Snapshots and restores of one workspace in one place of one object store; what the agent needs of the snapshot engine. */
export interface WorkspaceEngine extends AsyncDisposable {
  /** Goes on with another grant of the same place, also in the middle of work. */
  renew(storage: StorageGrant): void;
  ignoreRules(): Promise<WatchIgnore>;
  /**
   * Uploads the difference to `parent`; the caller commits. The result holds everything written before the call.
   * `changed` is all that may differ from the last call's result; `everything` is always right.
   */
  create(
    options: WorkOptions & {
      readonly epoch: number;
      readonly parent: SnapshotRef | null;
      readonly changed: DirtyMark['paths'];
      /** Take in these files alone and leave the rest as the parent has it. */
      readonly only?: ReadonlySet<string> | undefined;
    },
  ): Promise<CreateOutcome>;
  /** How a snapshot differs from its base, null for none. */
  compare(options: {
    readonly base: SnapshotRef | null;
    readonly snapshot: SnapshotRef;
    readonly signal: AbortSignal;
  }): Promise<BranchSummary>;
  /** Brings what differs in a branch from its base into the folder; `head` is the folder as it is. Repeatable. */
  merge(
    options: WorkOptions & Pick<MergeBranchOptions, 'branchId' | 'branch' | 'base' | 'head' | 'strategy' | 'paths'>,
  ): Promise<FolderMerge>;
  /** Makes the workspace folder equal to the snapshot; idempotent, resumable. */
  restore(
    options: WorkOptions & { readonly snapshot: SnapshotRef; readonly peer?: PeerPlace | undefined },
  ): Promise<Omit<RestoreResult, 'hookMs'>>;
  /** Reads the workspace folder back and holds it against the snapshot. Changes nothing. */
  check(options: WorkOptions & { readonly snapshot: SnapshotRef }): Promise<FolderCheck>;
}

/** Opens the engine for an assignment's workspace and storage. */
export type OpenEngine = (
  assignment: Pick<Assignment, 'workspaceId'> & { readonly storage: StorageGrant },
) => Promise<WorkspaceEngine>;
