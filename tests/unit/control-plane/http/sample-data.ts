import { commitBranch } from '@dumont/control-plane/store/branches.ts';
import type { Database } from '@dumont/control-plane/store/database.ts';
import { appendEvent } from '@dumont/control-plane/store/events.ts';
import { insertEnrolment } from '@dumont/control-plane/store/enrolments.ts';
import { openHarvest } from '@dumont/control-plane/store/harvests.ts';
import { hashSecret } from '@dumont/control-plane/workspaces/credentials.ts';
import { applyInstanceEvent, insertInstance, setProviderRef } from '@dumont/control-plane/store/instances.ts';
import { closeRefused, markRented, openLedgerRow } from '@dumont/control-plane/store/ledger.ts';
import { insertOperation } from '@dumont/control-plane/store/operations.ts';
import { commitSnapshot } from '@dumont/control-plane/store/snapshots.ts';
import { endStep, startStep } from '@dumont/control-plane/store/steps.ts';
import { insertWorkspace, promotePrimary, setEndpoint } from '@dumont/control-plane/store/workspaces.ts';
import type { FailoverReport } from '@dumont/shared/api/failover-report.ts';
import type { BranchId, InstanceId, OperationId, SnapshotId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { workspacePolicySchema } from '@dumont/shared/model/policy.ts';
import type { SnapshotRecord } from '@dumont/shared/protocol/snapshot-record.ts';
import { assert, must } from '@dumont/shared/util/assert.ts';

export interface SampleData {
  readonly workspaceId: WorkspaceId;
  /** Connected, primary, rented for an hour. */
  readonly primaryId: InstanceId;
  /** Refused by its provider, gone. */
  readonly goneId: InstanceId;
  readonly snapshotIds: readonly SnapshotId[];
  /** A finished failover with four steps. */
  readonly failoverId: OperationId;
  /** What the machine that is gone still held. */
  readonly branchId: BranchId;
}

const HOUR_MS = 3_600_000;

/** A workspace `demo` as it looks after its first failover. */
export async function fillSampleData(db: Database, nowMs: number): Promise<SampleData> {
  const workspaceId = newId('workspace');
  const policy = workspacePolicySchema.parse({ workload: { command: 'python train.py' } });
  await insertWorkspace(db, { id: workspaceId, name: 'demo', policy, atMs: nowMs - 2 * HOUR_MS });
  const failoverId = await addFailover(db, workspaceId, nowMs - HOUR_MS);
  const primaryId = await addMachine(db, { workspaceId, operationId: failoverId, atMs: nowMs - HOUR_MS });
  await markRented(db, primaryId, 'local-7', nowMs - HOUR_MS);
  await setProviderRef(db, primaryId, 'local-7');
  await applyInstanceEvent(db, primaryId, 'agentReady', nowMs - HOUR_MS + 900);
  await promotePrimary(db, workspaceId, primaryId, 0);
  await setEndpoint(db, workspaceId, primaryId);
  const goneId = await addMachine(db, { workspaceId, operationId: failoverId, atMs: nowMs - HOUR_MS - 50 });
  await closeRefused(db, goneId, 'no longer free', nowMs - HOUR_MS);
  await applyInstanceEvent(db, goneId, 'refused', nowMs - HOUR_MS);
  const snapshotIds: SnapshotId[] = [];
  for (let seq = 1; seq <= 3; seq += 1) {
    const record = sampleRecord(snapshotIds.at(-1) ?? null, nowMs - 60_000 * (4 - seq));
    const commit = {
      workspaceId,
      instanceId: primaryId,
      epoch: 0,
      record,
      storage: 'file',
      atMs: record.startedAtMs + 400,
    };
    await commitSnapshot(db, commit);
    snapshotIds.push(record.snapshotId);
  }
  const branchId = await addBranch(db, { workspaceId, instanceId: goneId, operationId: failoverId, atMs: nowMs });
  for (let index = 0; index < 5; index += 1) {
    await appendEvent(db, { type: 'snapshot.committed', atMs: nowMs - 5_000 + index, workspaceId, data: { index } });
  }
  const expiresAtMs = Number.MAX_SAFE_INTEGER;
  const hash = hashSecret(SAMPLE_ENROL_TOKEN);
  await insertEnrolment(db, { hash, instanceId: primaryId, atMs: 1, expiresAtMs });
  return { workspaceId, primaryId, goneId, snapshotIds, failoverId, branchId };
}

/** Of the primary, which has not used it. */
export const SAMPLE_ENROL_TOKEN = 'token-of-the-sample-machine'.padEnd(43, '-');

async function addFailover(db: Database, workspaceId: WorkspaceId, atMs: number): Promise<OperationId> {
  const id = newId('operation');
  await insertOperation(db, { id, kind: 'failover', workspaceId, state: 'completed', data: {}, atMs });
  let stepAtMs = atMs;
  for (const [step, durationMs] of [
    ['searching', 120],
    ['provisioning', 900],
    ['restoring', 1_400],
    ['switching', 30],
  ] as const) {
    const { position } = await startStep(db, id, step, stepAtMs);
    stepAtMs += durationMs;
    await endStep(db, id, { position, atMs: stepAtMs, durationMs, outcome: 'done', detail: {} });
  }
  await db.query('update operations set finished_at = $2, updated_at = $2 where id = $1', [id, stepAtMs]);
  return id;
}

async function addMachine(
  db: Database,
  machine: { readonly workspaceId: WorkspaceId; readonly operationId: OperationId; readonly atMs: number },
): Promise<InstanceId> {
  const id = newId('instance');
  const offer = {
    provider: 'local',
    offerId: `offer-${id}`,
    machineId: 'm-4711',
    gpuName: 'RTX 4090',
    gpuCount: 1,
    diskGb: 100,
    priceMicroUsdPerHour: 410_000,
    reliability: 0.99,
    region: 'eu-west',
    kind: 'spot' as const,
  };
  await insertInstance(db, { id, ...machine, role: 'gpu', offer });
  const ledgerRow = { provider: 'local', label: `dumont-${id}`, priceMicroUsdPerHour: 410_000, atMs: machine.atMs };
  await openLedgerRow(db, { instanceId: id, ...ledgerRow });
  return id;
}

async function addBranch(
  db: Database,
  machine: {
    readonly workspaceId: WorkspaceId;
    readonly instanceId: InstanceId;
    readonly operationId: OperationId;
    readonly atMs: number;
  },
): Promise<BranchId> {
  const { instanceId, atMs } = machine;
  await db.query("update instances set epoch = 0, state = 'lost' where id = $1", [instanceId]);
  const harvest = must(await openHarvest(db, { ...machine, commandId: newId('command') }), 'it is fenced');
  const change = { path: 'model.pt', change: 'added', sizeBytes: 4_096, modifiedAtMs: atMs } as const;
  const summary = { addedCount: 1, changedCount: 0, deletedCount: 0, changedBytes: 4_096, changes: [change] };
  const record = sampleRecord(harvest.baseSnapshotId, atMs);
  const outcome = await commitBranch(db, { ...machine, epoch: 0, record, summary, keepMs: HOUR_MS });
  await db.query("update instances set state = 'gone' where id = $1", [instanceId]);
  assert(outcome.kind === 'committed', 'a permitted branch is committed');
  return outcome.branch.id;
}

function sampleRecord(parentId: SnapshotId | null, startedAtMs: number): SnapshotRecord {
  const snapshotId = newId('snapshot');
  return {
    snapshotId,
    parentId,
    manifestKey: `manifests/${snapshotId}`,
    manifestHash: '0'.repeat(64),
    startedAtMs,
    createMs: 380,
    fileCount: 214,
    totalBytes: 1_288_490_188,
    newBytes: 31_457_280,
    storedBytes: 12_582_912,
    tornPaths: [],
  };
}

/** What a fast failover reports. */
export function sampleReport(failoverId: string, changes: Partial<FailoverReport> = {}): FailoverReport {
  const silenceBeganAtMs = 1_700_000_000_000;
  const machine = { provider: 'local', gpuName: 'RTX 4090', region: 'eu-west', priceMicroUsdPerHour: 410_000 };
  return {
    failoverId,
    workspaceId: 'ws_00000000000000000000',
    workspaceName: 'demo',
    state: 'completed',
    success: true,
    trigger: 'detector',
    reason: 'no heartbeat for 620 ms',
    evidence: [{ kind: 'silence', hard: false, atMs: silenceBeganAtMs + 620, detail: '3 beats missed' }],
    silenceBeganAtMs,
    detectMs: 620,
    phases: {
      detectMs: 620,
      searchMs: 118,
      provisionMs: 902,
      restoreMs: 1_431,
      commitMs: 24,
      resumeMs: 1_050,
      switchMs: 31,
      releaseMs: 812,
    },
    totalMs: 4_176,
    gatewayMs: 240,
    standby: null,
    branches: [],
    rpoMs: 812,
    rpoBytes: 4_096,
    epoch: 2,
    from: { ...machine, instanceId: 'in_aaaaaaaaaaaaaaaaaaaa', machineId: 'm-12' },
    to: { ...machine, instanceId: 'in_bbbbbbbbbbbbbbbbbbbb', machineId: 'm-31', priceMicroUsdPerHour: 380_000 },
    snapshot: {
      snapshotId: 'sn_cccccccccccccccccccc',
      seq: 41,
      totalBytes: 1_288_490_188,
      newBytes: 31_457_280,
      storedBytes: 12_582_912,
      compressionRatio: 2.5,
      storage: 'file',
      createMs: 380,
      startedAtMs: silenceBeganAtMs - 812,
      committedAtMs: silenceBeganAtMs - 420,
    },
    restore: {
      snapshotId: 'sn_cccccccccccccccccccc',
      fileCount: 214,
      bytesWritten: 1_288_490_188,
      bytesFetched: 702_545_920,
      totalMs: 1_398,
      downloadMs: 2_140,
      decompressMs: 870,
      hookMs: 0,
    },
    check: null,
    workloadResumedAtMs: silenceBeganAtMs + 4_145,
    attempts: 1,
    placement: {
      score: {
        priceMicroUsdPerHour: 380_000,
        expectedLoss: 0.02,
        lossMicroUsd: 7_600,
        restoreS: 11.2,
        restoreMicroUsd: 1_182,
        standbyRttMs: 8.5,
        distanceMicroUsd: 16_150,
        totalMicroUsd: 404_932,
      },
      widened: ['regions'],
    },
    loserCostMicroUsd: 410,
    loserInstanceIds: ['in_dddddddddddddddddddd', 'in_eeeeeeeeeeeeeeeeeeee'],
    costMicroUsd: 1_310,
    startedAtMs: silenceBeganAtMs + 620,
    finishedAtMs: silenceBeganAtMs + 4_988,
    error: null,
    ...changes,
  };
}
