import type { SnapshotRecord } from '@dumont/shared/protocol/snapshot-record.ts';
import type { SkippedPath } from '../workspace/scan.ts';

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
