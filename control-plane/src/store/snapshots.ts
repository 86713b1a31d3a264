import type { InstanceId, SnapshotId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { SnapshotRecord } from '@dumont/shared/protocol/snapshot-record.ts';
import { snapshotRecordSchema } from '@dumont/shared/protocol/snapshot-record.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { appendEvent } from './events.ts';
import { integer, json, text, textOrNull } from './columns.ts';
import type { Database, Queryable, Row } from './database.ts';

export interface SnapshotRow {
  readonly id: SnapshotId;
  readonly workspaceId: WorkspaceId;
  readonly seq: number;
  readonly epoch: number;
  readonly instanceId: InstanceId | null;
  readonly record: SnapshotRecord;
  readonly storage: string;
  readonly committedAtMs: number;
}

export type CommitOutcome =
  | { readonly kind: 'committed'; readonly snapshot: SnapshotRow; readonly isNew: boolean }
  | { readonly kind: 'stale-epoch'; readonly epoch: number }
  | { readonly kind: 'stale-parent'; readonly head: SnapshotRow | null };

export interface CommitRequest {
  readonly workspaceId: WorkspaceId;
  readonly instanceId: InstanceId;
  readonly epoch: number;
  readonly record: SnapshotRecord;
  readonly storage: string;
  readonly atMs: number;
}

/**
 * Makes a snapshot the workspace's head: compare-and-swap on epoch, primary and parent in one transaction, the point
 * at which a snapshot exists. Committing the same snapshot again answers `committed` without a change, by whomever and at
 * whatever epoch: what happened stays true.
 * @throws {DumontError} CONFLICT when another workspace has a snapshot of this id
 */
export function commitSnapshot(db: Database, request: CommitRequest): Promise<CommitOutcome> {
  return db.transaction(async (tx) => {
    const known = await findSnapshot(tx, request.record.snapshotId);
    if (known !== undefined) {
      if (known.workspaceId === request.workspaceId) return { kind: 'committed', snapshot: known, isNew: false };
      throw new DumontError('CONFLICT', `snapshot ${known.id} belongs to another workspace`, { field: 'snapshotId' });
    }
    const [workspace] = await tx.query('select * from workspaces where id = $1 for update', [request.workspaceId]);
    if (workspace === undefined) return { kind: 'stale-epoch', epoch: request.epoch + 1 };
    const epoch = integer(workspace, 'epoch');
    const primaryId = textOrNull(workspace, 'primary_instance_id');
    if (epoch !== request.epoch || primaryId !== request.instanceId) return { kind: 'stale-epoch', epoch };
    const headId = textOrNull(workspace, 'head_snapshot_id');
    if (headId !== request.record.parentId) {
      return { kind: 'stale-parent', head: headId === null ? null : ((await findSnapshot(tx, headId)) ?? null) };
    }
    const snapshot = await appendSnapshot(tx, request);
    await appendEvent(tx, {
      type: 'snapshot.committed',
      atMs: request.atMs,
      workspaceId: request.workspaceId,
      instanceId: request.instanceId,
      data: { snapshotId: snapshot.id, seq: snapshot.seq, epoch, ...sizesOf(request.record) },
    });
    return { kind: 'committed', snapshot, isNew: true };
  });
}

function sizesOf({ fileCount, totalBytes, newBytes, storedBytes, createMs }: SnapshotRecord) {
  return { fileCount, totalBytes, newBytes, storedBytes, createMs };
}

/** Registers a snapshot made before the workspace had a machine as its first head. */
export async function adoptInitialSnapshot(
  tx: Queryable,
  request: Omit<CommitRequest, 'instanceId'>,
): Promise<SnapshotRow> {
  return appendSnapshot(tx, { ...request, instanceId: null });
}

async function appendSnapshot(
  tx: Queryable,
  request: Omit<CommitRequest, 'instanceId'> & { readonly instanceId: InstanceId | null },
): Promise<SnapshotRow> {
  const rows = await tx.query(
    `insert into snapshots (id, workspace_id, seq, epoch, parent_id, instance_id, record, storage, committed_at)
     values ($1, $2, (select coalesce(max(seq), 0) + 1 from snapshots where workspace_id = $2), $3, $4, $5, $6, $7, $8)
     returning *`,
    [
      request.record.snapshotId,
      request.workspaceId,
      request.epoch,
      request.record.parentId,
      request.instanceId,
      JSON.stringify(request.record),
      request.storage,
      request.atMs,
    ],
  );
  await tx.query('update workspaces set head_snapshot_id = $2 where id = $1', [
    request.workspaceId,
    request.record.snapshotId,
  ]);
  return toSnapshot(rows[0] as Row);
}

export async function findSnapshot(db: Queryable, snapshotId: string): Promise<SnapshotRow | undefined> {
  const rows = await db.query('select * from snapshots where id = $1', [snapshotId]);
  return rows[0] === undefined ? undefined : toSnapshot(rows[0]);
}

/** Newest first, below a sequence number. */
export async function listSnapshots(
  db: Queryable,
  options: { readonly workspaceId: WorkspaceId; readonly belowSeq?: number | undefined; readonly limit: number },
): Promise<readonly SnapshotRow[]> {
  const rows = await db.query(
    `select * from snapshots where workspace_id = $1 and ($2::bigint is null or seq < $2) order by seq desc limit $3`,
    [options.workspaceId, options.belowSeq ?? null, options.limit],
  );
  return rows.map(toSnapshot);
}

function toSnapshot(row: Row): SnapshotRow {
  return {
    id: text(row, 'id') as SnapshotId,
    workspaceId: text(row, 'workspace_id') as WorkspaceId,
    seq: integer(row, 'seq'),
    epoch: integer(row, 'epoch'),
    instanceId: textOrNull(row, 'instance_id') as InstanceId | null,
    record: snapshotRecordSchema.parse(json(row, 'record')),
    storage: text(row, 'storage'),
    committedAtMs: integer(row, 'committed_at'),
  };
}
