import { z } from 'zod';
import type { FailoverTestEvent, FailoverTestState } from '@dumont/shared/model/failover-test.ts';
import { FAILOVER_TEST_TABLE } from '@dumont/shared/model/failover-test.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { workloadCheckSchema } from '@dumont/shared/model/workload-check.ts';
import type { CommandProgress } from '@dumont/shared/protocol/command.ts';
import { instanceIdSchema, snapshotIdSchema } from '@dumont/shared/protocol/primitives.ts';
import { folderCheckSchema } from '@dumont/shared/protocol/trial.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { appendEvent } from '../store/events.ts';
import { findInstance } from '../store/instances.ts';
import { findSnapshot } from '../store/snapshots.ts';
import { refOf } from '../workspaces/assignments.ts';
import { endTest, stepFailed } from './end-test.ts';
import { moveDataSchema, withRestored } from './move-data.ts';
import { provisionStep, readyReplacement, searchStep, workspaceOf } from './move-steps.ts';
import { runOnMachine } from './on-machine.ts';
import type { OperationKind, StepContext, StepResult } from './operation-kind.ts';
import type { OperationParts } from './operation-parts.ts';
import { takeSnapshot } from './take-snapshot.ts';

/** Rounds of offers; a real failover has more patience, but nobody waits for this one. */
const MAX_ATTEMPTS = 3;

/** Who was primary, at which epoch. */
const primarySchema = z.object({ instanceId: instanceIdSchema.nullable(), epoch: z.int() });

/** A superset of what a move knows, so that its steps search and rent for a test as they do for a failover. */
export const failoverTestDataSchema = moveDataSchema.extend({
  /** What has to answer on the test machine; null: nothing is started there. */
  wantedCheck: workloadCheckSchema.nullable().default(null),
  /** What is restored. */
  snapshotId: snapshotIdSchema.nullable().default(null),
  folder: folderCheckSchema.nullable().default(null),
  primaryBefore: primarySchema.nullable().default(null),
  primaryAfter: primarySchema.nullable().default(null),
  failure: z.string().nullable().default(null),
  destroyingSinceMs: z.int().nullable().default(null),
});
export type FailoverTestData = z.infer<typeof failoverTestDataSchema>;

type Context = StepContext<FailoverTestData>;
type Result = Promise<StepResult<FailoverTestEvent, FailoverTestData>>;

/**
 * Tries a workspace's failover out beside its primary. It is no move: a failover that becomes necessary meanwhile takes
 * place as if there were no test. The test's machine is a replacement to its agent and is promoted by nobody, since
 * promotions come only from the operation that rented a machine, and this one has no such step.
 */
export function failoverTestKind(
  parts: OperationParts,
): OperationKind<FailoverTestState, FailoverTestEvent, FailoverTestData, 'completed' | 'failed'> {
  return {
    kind: 'failover-test',
    table: FAILOVER_TEST_TABLE,
    dataSchema: failoverTestDataSchema,
    isOver: (state) => state === 'completed' || state === 'failed',
    steps: {
      snapshotting: (context) => snapshotStep(parts, context),
      searching: (context) => findOffers(parts, context),
      provisioning: (context) => provisionStep(parts, context),
      restoring: (context) => restoreStep(parts, context),
      verifying: (context) => verifyStep(parts, context),
      checking: (context) => checkStep(parts, context),
      destroying: (context) => destroyStep(parts, context),
    },
    onFailure: (error, data) => stepFailed(data, error.message),
  };
}

async function snapshotStep(parts: OperationParts, context: Context): Result {
  const { workspaceId, signal } = context;
  const taken = await takeSnapshot(parts, workspaceId, { signal });
  const workspace = await workspaceOf(parts, workspaceId);
  const { primaryInstanceId, epoch, headSnapshotId } = workspace;
  const primary = primaryInstanceId === null ? undefined : await findInstance(parts.db, primaryInstanceId);
  const data = {
    ...context.data,
    snapshotId: taken?.id ?? headSnapshotId,
    primaryBefore: { instanceId: primaryInstanceId, epoch },
    // A test on the primary's own host would say little about losing that host.
    avoidedMachineIds: primary === undefined ? [] : [primary.offer.machineId],
  };
  if (data.snapshotId === null) return stepFailed(data, 'there is nothing to restore: the workspace is empty');
  return { event: 'saved', data, detail: { snapshotId: data.snapshotId, isNew: taken !== null } };
}

async function findOffers(parts: OperationParts, context: Context): Result {
  const { data } = context;
  if (data.attempts >= MAX_ATTEMPTS) return stepFailed(data, 'no machine came up');
  const found = await searchStep(parts, context);
  if (found.event === 'offersFound') return { ...found, event: 'offersFound' };
  return stepFailed(found.data, found.error ?? 'no offer fits the policy now', found.detail);
}

async function restoreStep(parts: OperationParts, context: Context): Result {
  const { data, signal } = context;
  const snapshot = must(await snapshotOf(parts, data), 'a snapshot was taken before');
  const { restore } = await runOnMachine(
    parts,
    readyReplacement(data),
    // Without the hook: nothing of the user's runs on the test machine unless asked for.
    { name: 'restore', snapshot: refOf(snapshot), bare: true },
    {
      commandId: newId('command'),
      timeoutMs: parts.limits.restoreTimeoutMs,
      onProgress: (progress) => reportProgress(parts, context, progress),
      signal,
    },
  );
  return { event: 'restored', data: withRestored(data, snapshot.id, restore), detail: { ...restore } };
}

async function verifyStep(parts: OperationParts, context: Context): Result {
  const { data, signal } = context;
  const snapshot = must(await snapshotOf(parts, data), 'a snapshot was taken before');
  const { folder } = await runOnMachine(
    parts,
    readyReplacement(data),
    { name: 'verify-restore', snapshot: refOf(snapshot) },
    { commandId: newId('command'), timeoutMs: parts.limits.restoreTimeoutMs, signal },
  );
  const checked = { ...data, folder };
  if (folder.ok) return { event: 'verified', data: checked, detail: { ...folder } };
  const [first = 'no details'] = folder.differences;
  return stepFailed(checked, `${folder.differenceCount} differences from the snapshot: ${first}`, { ...folder });
}

async function checkStep(parts: OperationParts, { data, signal }: Context): Result {
  const check = data.wantedCheck;
  if (check === null) return { event: 'checked', data, detail: { check: 'none asked for' } };
  const { workloadStableMs, workloadStartTimeoutMs, workloadGraceMs } = parts.limits;
  const outcome = await runOnMachine(
    parts,
    readyReplacement(data),
    { name: 'trial-workload', stableMs: workloadStableMs, check, graceMs: workloadGraceMs },
    {
      commandId: newId('command'),
      timeoutMs: workloadStartTimeoutMs + check.timeoutMs + workloadGraceMs * 2,
      signal,
    },
  );
  const checked = { ...data, check: outcome.check };
  const detail = { state: outcome.state, check: outcome.check };
  if (outcome.check?.ok === true) return { event: 'checked', data: checked, detail };
  return stepFailed(checked, `the workload does not serve there: ${outcome.error ?? 'its check failed'}`, detail);
}

async function destroyStep(parts: OperationParts, context: Context): Result {
  const { primaryInstanceId, epoch } = await workspaceOf(parts, context.workspaceId);
  const primaryAfter = context.data.primaryAfter ?? { instanceId: primaryInstanceId, epoch };
  return endTest(parts, { ...context, data: { ...context.data, primaryAfter } });
}

function snapshotOf(parts: OperationParts, { snapshotId }: FailoverTestData) {
  return findSnapshot(parts.db, must(snapshotId, 'a snapshot was taken before'));
}

function reportProgress(parts: OperationParts, context: Context, progress: CommandProgress): void {
  const { operationId, workspaceId } = context;
  const { doneBytes, totalBytes, doneFiles, totalFiles } = progress;
  const data = { doneBytes, totalBytes, doneFiles, totalFiles };
  appendEvent(parts.db, { type: 'restore.progress', atMs: parts.clock.nowMs(), workspaceId, operationId, data }).then(
    () => parts.onChange(),
    (error: unknown) => parts.log.debug({ event: 'test.progress', err: error }, 'progress not recorded'),
  );
}
