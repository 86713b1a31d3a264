import type { TestReport } from '@dumont/shared/api/test-report.ts';
import type { StepView } from '@dumont/shared/api/views.ts';
import { costMicroUsd } from '@dumont/shared/model/money.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { Queryable } from '../store/database.ts';
import type { InstanceRow } from '../store/instances.ts';
import { listByOperation } from '../store/instances.ts';
import { findLedger } from '../store/ledger.ts';
import type { OperationRow } from '../store/operations.ts';
import { findSnapshot } from '../store/snapshots.ts';
import { listSteps } from '../store/steps.ts';
import { findTest } from '../store/tests.ts';
import { findWorkspace } from '../store/workspaces.ts';
import { failoverTestDataSchema } from './failover-test.ts';
import { providerTestDataSchema } from './provider-test.ts';
import type { Claim } from './test-evidence.ts';
import { failoverTestEvidence, providerTestEvidence } from './test-evidence.ts';

/** The report of one test, finished or not, from its stored steps. @throws {DumontError} NOT_FOUND */
export async function buildTestReport(db: Queryable, testId: string, nowMs: number): Promise<TestReport> {
  const operation = await findTest(db, testId);
  if (operation === undefined) {
    throw new DumontError('NOT_FOUND', `there is no test "${testId}"`, {
      field: 'testId',
      hint: 'GET /api/v1/tests lists them.',
    });
  }
  const rented = await listByOperation(db, operation.id);
  const steps = await listSteps(db, operation.id);
  const part =
    operation.kind === 'provider-test'
      ? providerPart(operation, steps)
      : await failoverPart(db, operation, { steps, rented });
  const machines = await machinesOf(db, rented, { testedId: part.testedId, nowMs });
  const isOver = operation.finishedAtMs !== null;
  const areGone = machines.every(({ goneAtMs }) => goneAtMs !== null);
  const { testedId: _, claims, ...rest } = part;
  return {
    testId: operation.id,
    kind: operation.kind === 'provider-test' ? 'provider-test' : 'failover-test',
    state: operation.state,
    success: isOver ? operation.state === 'completed' && areGone : null,
    startedAtMs: operation.createdAtMs,
    finishedAtMs: operation.finishedAtMs,
    totalMs: Math.max(0, (operation.finishedAtMs ?? nowMs) - operation.createdAtMs),
    steps: stepsOf(operation, steps, nowMs),
    machines,
    costMicroUsd: machines.reduce((sum, machine) => sum + machine.costMicroUsd, 0),
    evidence: [...claims, ...destroyedClaim(machines, isOver)].map(([claim, ok, detail]) => ({ claim, ok, detail })),
    ...rest,
  };
}

/** What only one of the kinds knows. */
type Part = Pick<
  TestReport,
  | 'workspaceId'
  | 'workspaceName'
  | 'error'
  | 'statuses'
  | 'maxCostMicroUsd'
  | 'snapshot'
  | 'restore'
  | 'folder'
  | 'check'
> & { readonly testedId: string | null; readonly claims: readonly Claim[] };

function providerPart(operation: OperationRow, steps: readonly StepView[]): Part {
  const data = providerTestDataSchema.parse(operation.data);
  return {
    workspaceId: null,
    workspaceName: null,
    error: data.failure,
    statuses: data.statuses,
    maxCostMicroUsd: data.maxCostMicroUsd,
    snapshot: null,
    restore: null,
    folder: null,
    check: null,
    testedId: data.instanceId,
    claims: providerTestEvidence(steps),
  };
}

async function failoverPart(
  db: Queryable,
  operation: OperationRow,
  { rented }: { readonly steps: readonly StepView[]; readonly rented: readonly InstanceRow[] },
): Promise<Part> {
  const data = failoverTestDataSchema.parse(operation.data);
  const workspaceId = must(operation.workspaceId, 'a failover test is of a workspace');
  const workspace = await findWorkspace(db, workspaceId);
  const snapshot = data.snapshotId === null ? undefined : await findSnapshot(db, data.snapshotId);
  const tested = rented.find(({ id }) => id === data.replacement?.instanceId);
  return {
    workspaceId,
    workspaceName: workspace?.name ?? workspaceId,
    error: data.failure,
    statuses: [],
    maxCostMicroUsd: null,
    snapshot: snapshot === undefined ? null : snapshotOf(snapshot.record),
    restore: data.restore,
    folder: data.folder,
    check: data.check,
    testedId: tested?.id ?? null,
    claims: failoverTestEvidence(data, { snapshot: snapshot?.record, rented }),
  };
}

function snapshotOf(record: NonNullable<Awaited<ReturnType<typeof findSnapshot>>>['record']): TestReport['snapshot'] {
  const { snapshotId, fileCount, totalBytes, storedBytes, createMs } = record;
  return { snapshotId, fileCount, totalBytes, storedBytes, createMs };
}

async function machinesOf(
  db: Queryable,
  rented: readonly InstanceRow[],
  { testedId, nowMs }: { readonly testedId: string | null; readonly nowMs: number },
): Promise<TestReport['machines']> {
  const testedFirst = rented.toSorted((a, b) => Number(b.id === testedId) - Number(a.id === testedId));
  const machines: TestReport['machines'] = [];
  for (const { id, offer } of testedFirst) {
    const row = await findLedger(db, id);
    const rentedAtMs = row?.rentedAtMs ?? null;
    const goneAtMs = row?.goneAtMs ?? null;
    const { provider, machineId, gpuName, gpuCount, region, priceMicroUsdPerHour } = offer;
    const cost = rentedAtMs === null ? 0 : costMicroUsd(priceMicroUsdPerHour, (goneAtMs ?? nowMs) - rentedAtMs);
    const what = { provider, machineId, gpuName, gpuCount, region, priceMicroUsdPerHour };
    machines.push({ instanceId: id, ...what, costMicroUsd: cost, rentedAtMs, goneAtMs });
  }
  return machines;
}

function destroyedClaim(machines: TestReport['machines'], isOver: boolean): readonly Claim[] {
  const gone = machines.filter(({ goneAtMs }) => goneAtMs !== null).length;
  const claim = 'Everything that was rented is gone';
  if (!isOver) return [];
  if (machines.length === 0) return [[claim, true, 'nothing was rented']];
  const detail = `${gone} of ${machines.length}: the provider denied twice that they exist`;
  return [[claim, gone === machines.length, detail]];
}

function stepsOf(operation: OperationRow, steps: readonly StepView[], nowMs: number): TestReport['steps'] {
  const timed = steps.map((step) => ({
    ...step,
    // Of a step under way, and of one whose process died: by the wall clock.
    durationMs: Math.max(0, step.durationMs ?? (step.endedAtMs ?? nowMs) - step.startedAtMs),
  }));
  const sumMs = timed.reduce((sum, { durationMs }) => sum + durationMs, 0);
  return timed.map(({ step, startedAtMs, durationMs, outcome, detail }) => ({
    step,
    startedAtMs,
    offsetMs: Math.max(0, startedAtMs - operation.createdAtMs),
    durationMs: Math.round(durationMs * 10) / 10,
    share: sumMs === 0 ? 0 : Math.min(1, durationMs / sumMs),
    outcome,
    detail,
  }));
}
