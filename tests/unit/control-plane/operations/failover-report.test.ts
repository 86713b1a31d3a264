import { buildFailoverReport } from '@dumont/control-plane/operations/failover-report.ts';
import { failoverDataSchema } from '@dumont/control-plane/operations/failover.ts';
import type { Database } from '@dumont/control-plane/store/database.ts';
import { markRented, openLedgerRow } from '@dumont/control-plane/store/ledger.ts';
import { insertOperation } from '@dumont/control-plane/store/operations.ts';
import { adoptInitialSnapshot } from '@dumont/control-plane/store/snapshots.ts';
import { endStep, startStep } from '@dumont/control-plane/store/steps.ts';
import { failoverReportSchema } from '@dumont/shared/api/failover-report.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { expect, test } from 'vitest';
import { onEachDatabase } from '../../../world/databases.ts';
import { someInstance, someSnapshot, someWorkspace } from '../../../world/rows.ts';

const SILENCE_MS = 1_700_000_000_000;

/** A failover as it is stored: steps in order with their outcomes and durations, data and final state. */
async function stored(
  db: Database,
  options: {
    readonly steps: readonly (readonly [step: string, outcome: string | null, durationMs: number])[];
    readonly data?: object;
    readonly state: string;
    readonly error?: string;
  },
) {
  const workspaceId = await someWorkspace(db, 'mine');
  const id = newId('operation');
  const fromInstanceId = await someInstance(db, workspaceId);
  const data = failoverDataSchema.parse({
    trigger: 'detector',
    reason: 'silence',
    fromInstanceId,
    silenceBeganAtMs: SILENCE_MS,
    confirmedAtMs: SILENCE_MS + 640,
    detectMs: 640.04,
    ...options.data,
  });
  const createdAtMs = SILENCE_MS + 650;
  await insertOperation(db, { id, kind: 'failover', workspaceId, state: options.state, data, atMs: createdAtMs });
  let atMs = createdAtMs;
  for (const [step, outcome, durationMs] of options.steps) {
    const { position } = await startStep(db, id, step, atMs);
    atMs += durationMs;
    if (outcome !== null) await endStep(db, id, { position, atMs, durationMs, outcome, detail: {} });
  }
  const isOver = ['completed', 'averted', 'failed'].includes(options.state);
  await db.query('update operations set finished_at = $2, error = $3 where id = $1', [
    id,
    isOver ? atMs : null,
    options.error ?? null,
  ]);
  return { id, workspaceId, fromInstanceId, endMs: atMs };
}

const SMOOTH = [
  ['searching', 'offersFound', 40],
  ['provisioning', 'machineReady', 3_000],
  ['restoring', 'restored', 500],
  ['committing', 'committed', 10],
  ['resuming', 'workloadChecked', 600],
  ['switching', 'switched', 5],
  ['releasing', 'released', 900],
] as const;

onEachDatabase((database) => {
  test('a smooth failover without a snapshot: every phase, and the time until users were served', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const { id, workspaceId, fromInstanceId, endMs } = await stored(db, { steps: SMOOTH, state: 'completed' });
    const report = await buildFailoverReport(db, id, endMs + 1_000);
    expect(failoverReportSchema.parse(report)).toEqual(report);
    expect(report).toMatchObject({
      failoverId: id,
      workspaceId,
      workspaceName: 'mine',
      success: true,
      detectMs: 640,
      phases: {
        detectMs: 640,
        searchMs: 40,
        provisionMs: 3_000,
        restoreMs: 500,
        commitMs: 10,
        resumeMs: 600,
        switchMs: 5,
        releaseMs: 900,
      },
      // From the last sign of life to the switch; the release is nobody's wait.
      totalMs: 650 + 40 + 3_000 + 500 + 10 + 600 + 5,
      rpoMs: null,
      snapshot: null,
      restore: null,
      from: { instanceId: fromInstanceId },
      to: null,
      costMicroUsd: 0,
      finishedAtMs: endMs,
      error: null,
    });
  });

  test('several attempts are summed by phase, and what failed on the way of a success is no error', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const steps = [
      ['searching', 'offersFound', 40],
      ['provisioning', 'machineReady', 2_000],
      ['restoring', 'attemptFailed', 100],
      ['searching', 'offersFound', 60],
      ['provisioning', 'machineReady', 1_000],
      ['restoring', 'restored', 300],
      ['committing', 'headMoved', 7],
      ['restoring', 'restored', 200],
      ...SMOOTH.slice(3),
    ] as const;
    const { id, endMs } = await stored(db, {
      steps,
      state: 'completed',
      error: 'disk full',
      data: { attempts: 1, replacement: { instanceId: newId('instance'), machineId: 'm' } },
    });
    const report = await buildFailoverReport(db, id, endMs);
    expect(report).toMatchObject({ success: true, attempts: 2, error: null });
    expect(report.phases).toMatchObject({ searchMs: 100, provisionMs: 3_000, restoreMs: 600, commitMs: 17 });
  });

  test('an averted failover is no success, served nobody and says what ran', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const steps = [
      ['searching', 'offersFound', 40],
      ['provisioning', 'refuted', 900],
      ['averting', 'released', 30],
    ] as const;
    const { id, endMs } = await stored(db, { steps, state: 'averted' });
    const report = await buildFailoverReport(db, id, endMs);
    expect(report).toMatchObject({
      state: 'averted',
      success: false,
      totalMs: null,
      error: null,
      to: null,
      epoch: null,
      rpoMs: 0,
    });
    expect(report.phases).toMatchObject({ provisionMs: 900, restoreMs: null, switchMs: null, releaseMs: null });
  });

  test('a failed one says why, and an unfinished one has no outcome yet', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const failed = await stored(db, {
      steps: [['searching', 'gaveUp', 1_000]],
      state: 'failed',
      error: 'no offer fits the policy',
    });
    expect(await buildFailoverReport(db, failed.id, failed.endMs)).toMatchObject({
      success: false,
      error: 'no offer fits the policy',
    });
    await db.query('update workspaces set name = id');
    const running = await stored(db, {
      steps: [
        ['searching', 'offersFound', 40],
        ['provisioning', null, 0],
      ],
      state: 'provisioning',
    });
    const report = await buildFailoverReport(db, running.id, running.endMs);
    expect(report).toMatchObject({ success: null, finishedAtMs: null, totalMs: null });
    expect(report.phases).toMatchObject({ searchMs: 40, provisionMs: null });
  });

  test('a workload that did not come up is a failover that did not succeed', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const { id, endMs } = await stored(db, {
      steps: SMOOTH,
      state: 'completed',
      data: { workloadError: 'exit code 1' },
    });
    expect(await buildFailoverReport(db, id, endMs)).toMatchObject({ success: false, error: 'exit code 1' });
  });

  test('what was lost is the time between the restored snapshot and the last sign of life, and machines cost until the end', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const record = { ...someSnapshot(), startedAtMs: SILENCE_MS - 1_500, newBytes: 4_000, storedBytes: 1_000 };
    const { id, workspaceId, endMs } = await stored(db, {
      steps: SMOOTH,
      state: 'completed',
      data: { restoredSnapshotId: record.snapshotId },
    });
    await adoptInitialSnapshot(db, { workspaceId, epoch: 1, record, storage: 'b2', atMs: SILENCE_MS - 1_000 });
    const winner = await someInstance(db, workspaceId, { operationId: id });
    const loser = await someInstance(db, workspaceId, { operationId: id });
    const refused = await someInstance(db, workspaceId, { operationId: id });
    for (const instanceId of [winner, loser, refused]) {
      await openLedgerRow(db, {
        instanceId,
        provider: 'p',
        label: instanceId,
        priceMicroUsdPerHour: 3_600_000,
        atMs: 1,
      });
    }
    await markRented(db, winner, 'a', endMs - 2_000);
    await markRented(db, loser, 'b', endMs - 2_000);
    await db.query('update ledger set gone_at = $2 where instance_id = $1', [loser, endMs - 1_500]);
    await db.query('update operations set data = data || $2 where id = $1', [
      id,
      JSON.stringify({ replacement: { instanceId: winner, machineId: 'm' } }),
    ]);
    const report = await buildFailoverReport(db, id, endMs + 3_600_000);
    expect(report).toMatchObject({
      rpoMs: 1_500,
      snapshot: { snapshotId: record.snapshotId, storage: 'b2', compressionRatio: 4 },
      to: { instanceId: winner },
      // One dollar an hour in micro-dollars is one thousand a second: two seconds and half a second.
      costMicroUsd: 2_500,
    });
    expect(new Set(report.loserInstanceIds)).toEqual(new Set([loser, refused]));
  });

  test('only a failover has a report', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const id = newId('operation');
    await insertOperation(db, {
      id,
      kind: 'release',
      workspaceId: await someWorkspace(db),
      state: 'saving',
      data: {},
      atMs: 1,
    });
    for (const unknown of [id, 'op_nothing']) {
      await expect(buildFailoverReport(db, unknown, 1)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    }
  });
});
