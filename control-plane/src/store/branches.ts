import { z } from 'zod';
import type { BranchState } from '@dumont/shared/model/branch.ts';
import { BRANCH_STATES } from '@dumont/shared/model/branch.ts';
import type { BranchId, InstanceId, OperationId, SnapshotId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import type { BranchSummary } from '@dumont/shared/protocol/branch.ts';
import { branchSummarySchema } from '@dumont/shared/protocol/branch.ts';
import type { SnapshotRecord } from '@dumont/shared/protocol/snapshot-record.ts';
import { snapshotRecordSchema } from '@dumont/shared/protocol/snapshot-record.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { integer, integerOrNull, json, text, textOrNull } from './columns.ts';
import type { Database, Queryable, Row } from './database.ts';
import { appendEvent } from './events.ts';
import { closeHarvest, lockOpenHarvest } from './harvests.ts';
import { findSnapshot } from './snapshots.ts';

/** What a fenced machine held that no snapshot of its workspace does. */
export interface BranchRow {
  readonly id: BranchId;
  readonly workspaceId: WorkspaceId;
  /** The machine, and the epoch at which it was primary. */
  readonly instanceId: InstanceId;
  readonly epoch: number;
  /** The operation that had it harvested. */
  readonly operationId: OperationId;
  readonly baseSnapshotId: SnapshotId | null;
  readonly record: SnapshotRecord;
  readonly summary: BranchSummary;
  readonly state: BranchState;
  readonly createdAtMs: number;
  readonly expiresAtMs: number;
  readonly mergedAtMs: number | null;
  readonly deletedAtMs: number | null;
  /** Since when nothing of it is in the object store but what others use too. */
  readonly removedAtMs: number | null;
}

export interface BranchCommit {
  readonly workspaceId: WorkspaceId;
  readonly instanceId: InstanceId;
  readonly epoch: number;
  readonly record: SnapshotRecord;
  readonly summary: BranchSummary;
  readonly atMs: number;
  /** Age at which it is deleted, ms. */
  readonly keepMs: number;
}

export type BranchCommitOutcome =
  | { readonly kind: 'committed'; readonly branch: BranchRow; readonly isNew: boolean }
  | { readonly kind: 'refused'; readonly reason: string };

/**
 * Makes a snapshot of a fenced instance a branch, where {@link openHarvest} permits it, and ends that permission. The
 * head of the workspace stays what it is, whatever is committed. Committing the same snapshot again answers `committed`
 * without a change.
 * @throws {DumontError} CONFLICT for the id of a snapshot that is of the workspace, or a branch of another machine
 */
export function commitBranch(db: Database, request: BranchCommit): Promise<BranchCommitOutcome> {
  const { workspaceId, instanceId, epoch, record, atMs } = request;
  return db.transaction(async (tx) => {
    const known = await findBranchOfSnapshot(tx, record.snapshotId);
    if (known?.instanceId === instanceId) return { kind: 'committed', branch: known, isNew: false };
    if (known !== undefined || (await findSnapshot(tx, record.snapshotId)) !== undefined) {
      throw new DumontError('CONFLICT', `snapshot ${record.snapshotId} exists already`, { field: 'snapshotId' });
    }
    const [workspace] = await tx.query('select primary_instance_id from workspaces where id = $1 for update', [
      workspaceId,
    ]);
    const harvest = await lockOpenHarvest(tx, instanceId, epoch);
    if (workspace === undefined || harvest?.workspaceId !== workspaceId) {
      return { kind: 'refused', reason: 'nothing permits it' };
    }
    if (textOrNull(workspace, 'primary_instance_id') === instanceId) {
      return { kind: 'refused', reason: 'it is primary' };
    }
    if (harvest.baseSnapshotId !== record.parentId) {
      return { kind: 'refused', reason: `it is not based on ${harvest.baseSnapshotId ?? 'nothing'}` };
    }
    const branch = await insertBranch(tx, request, harvest.operationId);
    await closeHarvest(tx, harvest, { outcome: 'harvested', reason: null, atMs });
    const { addedCount, changedCount, deletedCount, changedBytes } = request.summary;
    const data = { branchId: branch.id, addedCount, changedCount, deletedCount, changedBytes };
    const { operationId } = harvest;
    await appendEvent(tx, { type: 'branch.harvested', atMs, workspaceId, instanceId, operationId, data });
    return { kind: 'committed', branch, isNew: true };
  });
}

async function insertBranch(tx: Queryable, request: BranchCommit, operationId: OperationId): Promise<BranchRow> {
  const { workspaceId, instanceId, epoch, record, summary, atMs, keepMs } = request;
  const rows = await tx.query(
    `insert into branches (id, workspace_id, instance_id, epoch, operation_id, base_snapshot_id, snapshot_id, record,
       summary, state, created_at, expires_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'open', $10, $11) returning *`,
    [
      newId('branch'),
      workspaceId,
      instanceId,
      epoch,
      operationId,
      record.parentId,
      record.snapshotId,
      JSON.stringify(record),
      JSON.stringify(summary),
      atMs,
      atMs + keepMs,
    ],
  );
  return toBranch(must(rows[0], 'an insert returns its row'));
}

async function findBranchOfSnapshot(db: Queryable, snapshotId: SnapshotId): Promise<BranchRow | undefined> {
  const rows = await db.query('select * from branches where snapshot_id = $1', [snapshotId]);
  return rows[0] === undefined ? undefined : toBranch(rows[0]);
}

export async function findBranch(db: Queryable, branchId: string): Promise<BranchRow | undefined> {
  const rows = await db.query('select * from branches where id = $1', [branchId]);
  return rows[0] === undefined ? undefined : toBranch(rows[0]);
}

/** Newest first, strictly before the cursor row. */
export async function listBranches(
  db: Queryable,
  options: {
    readonly workspaceId?: WorkspaceId | undefined;
    readonly includeDeleted: boolean;
    readonly before?: string | undefined;
    readonly limit: number;
  },
): Promise<readonly BranchRow[]> {
  const rows = await db.query(
    `select * from branches
     where ($1::text is null or workspace_id = $1) and ($2 or state <> 'deleted')
       and ($3::text is null or (created_at, id) < (select created_at, id from branches where id = $3))
     order by created_at desc, id desc limit $4`,
    [options.workspaceId ?? null, options.includeDeleted, options.before ?? null, options.limit],
  );
  return rows.map(toBranch);
}

/** Branches that an operation had harvested, oldest first. */
export async function branchesOfOperation(db: Queryable, operationId: string): Promise<readonly BranchRow[]> {
  const rows = await db.query('select * from branches where operation_id = $1 order by created_at, id', [operationId]);
  return rows.map(toBranch);
}

/** All of the branch was merged. @returns undefined when it is deleted */
export async function markMerged(db: Queryable, branchId: BranchId, atMs: number): Promise<BranchRow | undefined> {
  const rows = await db.query(
    "update branches set state = 'merged', merged_at = $2 where id = $1 and state <> 'deleted' returning *",
    [branchId, atMs],
  );
  return rows[0] === undefined ? undefined : toBranch(rows[0]);
}

/** Nobody can merge it from here on; its manifest is removed later. @returns undefined when it was deleted before */
export async function markDeleted(db: Queryable, branchId: BranchId, atMs: number): Promise<BranchRow | undefined> {
  const rows = await db.query(
    "update branches set state = 'deleted', deleted_at = $2 where id = $1 and state <> 'deleted' returning *",
    [branchId, atMs],
  );
  return rows[0] === undefined ? undefined : toBranch(rows[0]);
}

/** Branches that are not deleted and past their age, oldest first. */
export async function listExpiredBranches(
  db: Queryable,
  options: { readonly nowMs: number; readonly limit: number },
): Promise<readonly BranchRow[]> {
  const rows = await db.query(
    "select * from branches where removed_at is null and state <> 'deleted' and expires_at <= $1 order by expires_at limit $2",
    [options.nowMs, options.limit],
  );
  return rows.map(toBranch);
}

/** Deleted branches whose manifest may still be in the object store. */
export async function listUnremovedBranches(
  db: Queryable,
  options: { readonly limit: number },
): Promise<readonly BranchRow[]> {
  const rows = await db.query(
    "select * from branches where removed_at is null and state = 'deleted' order by deleted_at limit $1",
    [options.limit],
  );
  return rows.map(toBranch);
}

export async function markRemoved(db: Queryable, branchId: BranchId, atMs: number): Promise<void> {
  await db.query('update branches set removed_at = $2 where id = $1', [branchId, atMs]);
}

function toBranch(row: Row): BranchRow {
  return {
    id: text(row, 'id') as BranchId,
    workspaceId: text(row, 'workspace_id') as WorkspaceId,
    instanceId: text(row, 'instance_id') as InstanceId,
    epoch: integer(row, 'epoch'),
    operationId: text(row, 'operation_id') as OperationId,
    baseSnapshotId: textOrNull(row, 'base_snapshot_id') as SnapshotId | null,
    record: snapshotRecordSchema.parse(json(row, 'record')),
    summary: branchSummarySchema.parse(json(row, 'summary')),
    state: z.enum(BRANCH_STATES).parse(row['state']),
    createdAtMs: integer(row, 'created_at'),
    expiresAtMs: integer(row, 'expires_at'),
    mergedAtMs: integerOrNull(row, 'merged_at'),
    deletedAtMs: integerOrNull(row, 'deleted_at'),
    removedAtMs: integerOrNull(row, 'removed_at'),
  };
}
