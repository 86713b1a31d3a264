import type { TestReport } from '@dumont/shared/api/test-report.ts';
import { formatMicroUsd } from '@dumont/shared/model/money.ts';
import { formatBytes, formatDuration } from '@dumont/shared/util/units.ts';
import { formatPrice } from '../output/format.ts';
import type { Bar, ReportDocument } from './document.ts';

const KINDS: Readonly<Record<TestReport['kind'], string>> = {
  'provider-test': 'Provider test',
  'failover-test': 'Failover test',
};

/** What people call the steps. */
const STEP_LABELS: Readonly<Record<string, string>> = {
  snapshotting: 'Take a snapshot',
  searching: 'Search offers',
  creating: 'Create the machine',
  booting: 'Wait until it runs',
  reaching: 'Wait for SSH and agent',
  writing: 'Write a file',
  verifying: 'Verify',
  sampling: 'nvidia-smi',
  provisioning: 'Rent a machine',
  restoring: 'Restore the snapshot',
  checking: 'Inference',
  destroying: 'Destroy',
};

/** A step's name for people. */
export function stepLabel(step: string): string {
  return STEP_LABELS[step] ?? step;
}

/** A test's report laid out. Pure. */
export function testDocument(report: TestReport): ReportDocument {
  const [tested] = report.machines;
  const what = report.workspaceName ?? tested?.provider ?? 'no machine';
  return {
    kind: KINDS[report.kind],
    title: what,
    subtitle: `${report.testId} · ${new Date(report.startedAtMs).toISOString()}`,
    verdict: verdictOf(report),
    figures: [
      { label: 'Total', value: formatDuration(report.totalMs) },
      { label: 'Cost', value: formatMicroUsd(report.costMicroUsd) },
      { label: 'Machines rented', value: String(report.machines.length) },
      ...(report.restore === null ? [] : [{ label: 'Restored', value: formatBytes(report.restore.bytesWritten) }]),
      ...(report.folder === null ? [] : [{ label: 'Read back', value: formatBytes(report.folder.bytes) }]),
    ],
    bars: report.steps.filter(isWork).map(barOf),
    claims: report.evidence.map(({ claim, ok, detail }) => ({ text: claim, ok, detail })),
    facts: factsOf(report),
    tables: [machineTable(report), statusTable(report)].filter(({ rows }) => rows.length > 0),
    footer:
      'Dumont Cloud. Times are of the control plane; costs are the ledger’s: price × time from the rental to the proof that the machine is gone.',
  };
}

/** How the test ended, in a sentence. Pure. */
export function verdictOf({ success, state, error }: TestReport): ReportDocument['verdict'] {
  if (success === null) return { tone: 'running', text: `Under way: ${stepLabel(state)}` };
  if (success) return { tone: 'good', text: 'Passed: every step worked out, and everything rented is gone' };
  return { tone: 'bad', text: `Failed: ${error ?? 'no reason given'}` };
}

/** A step that had nothing to do is no line of the chart. */
function isWork({ step, detail }: TestReport['steps'][number]): boolean {
  return step !== 'checking' || detail['check'] !== 'none asked for';
}

function barOf({ step, offsetMs, durationMs, share, outcome }: TestReport['steps'][number]): Bar {
  const isBad = outcome !== null && /fail|cancelled/i.test(outcome);
  const tone = outcome === null ? 'running' : isBad ? 'bad' : 'good';
  return { label: stepLabel(step), offsetMs, durationMs, share, tone, note: isBad ? outcome : null };
}

function factsOf({ snapshot, restore, folder, check, maxCostMicroUsd }: TestReport): ReportDocument['facts'] {
  const facts: (readonly [string, string])[] = [];
  if (maxCostMicroUsd !== null) facts.push(['Cost limit', formatMicroUsd(maxCostMicroUsd)]);
  if (snapshot !== null) {
    const sizes = `${snapshot.fileCount} files, ${formatBytes(snapshot.totalBytes)}, stored as ${formatBytes(snapshot.storedBytes)}`;
    facts.push(['Snapshot', `${snapshot.snapshotId}, ${sizes}, taken in ${formatDuration(snapshot.createMs)}`]);
  }
  if (restore !== null) {
    const work = `download ${formatDuration(restore.downloadMs)}, decompress ${formatDuration(restore.decompressMs)}`;
    facts.push([
      'Restore',
      `${formatBytes(restore.bytesFetched)} fetched in ${formatDuration(restore.totalMs)} (${work})`,
    ]);
  }
  if (folder !== null) {
    facts.push(['Tree expected', folder.expectedTree], ['Tree found', folder.actualTree]);
    if (folder.differenceCount > 0)
      facts.push(['Differences', `${folder.differenceCount}: ${folder.differences.join('; ')}`]);
  }
  if (check !== null) {
    const first = check.firstTokenMs === null ? 'no token' : `first token after ${formatDuration(check.firstTokenMs)}`;
    facts.push(['Inference', `${check.model ?? check.kind}: ${check.ok ? first : (check.error ?? 'no answer')}`]);
  }
  return facts;
}

function machineTable({ machines }: TestReport): ReportDocument['tables'][number] {
  return {
    title: 'Machines and costs',
    head: ['Machine', 'GPU', 'Where', 'Price', 'Cost', 'Gone'],
    rows: machines.map((machine) => [
      machine.instanceId,
      machine.gpuCount > 1 ? `${machine.gpuCount} × ${machine.gpuName}` : machine.gpuName,
      `${machine.provider}, ${machine.region}`,
      formatPrice(machine.priceMicroUsdPerHour),
      formatMicroUsd(machine.costMicroUsd),
      machine.goneAtMs === null ? 'not proven' : 'proven',
    ]),
    right: [3, 4],
  };
}

function statusTable({ statuses, startedAtMs }: TestReport): ReportDocument['tables'][number] {
  return {
    title: 'What the provider said',
    head: ['After', 'Status', 'Its word'],
    rows: statuses.map(({ atMs, status, rawStatus }) => [
      formatDuration(Math.max(0, atMs - startedAtMs)),
      status,
      rawStatus ?? '–',
    ]),
    right: [0],
  };
}
