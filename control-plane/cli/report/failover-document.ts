import type { FailoverReport } from '@dumont/shared/api/failover-report.ts';
import { formatMicroUsd } from '@dumont/shared/model/money.ts';
import { formatBytes, formatDuration } from '@dumont/shared/util/units.ts';
import { formatPrice } from '../output/format.ts';
import type { Bar, Claim, ReportDocument } from './document.ts';

const PHASES: readonly (readonly [label: string, key: keyof FailoverReport['phases']])[] = [
  ['Detect the loss', 'detectMs'],
  ['Search offers', 'searchMs'],
  ['Rent a machine', 'provisionMs'],
  ['Restore', 'restoreMs'],
  ['Commit', 'commitMs'],
  ['Resume the workload', 'resumeMs'],
  ['Switch users', 'switchMs'],
  ['Give back the old machine', 'releaseMs'],
];

/** A failover's report laid out. Pure. */
export function failoverDocument(report: FailoverReport): ReportDocument {
  return {
    kind: 'Failover report',
    title: report.workspaceName,
    subtitle: `${report.failoverId} · ${new Date(report.startedAtMs).toISOString()}`,
    verdict: verdictOf(report),
    figures: [
      { label: 'Served again in', value: orDash(report.totalMs, formatDuration) },
      { label: 'Detected in', value: formatDuration(report.detectMs) },
      { label: 'Work lost', value: orDash(report.rpoMs, formatDuration) },
      { label: 'Cost', value: formatMicroUsd(report.costMicroUsd) },
    ],
    bars: barsOf(report.phases),
    claims: claimsOf(report),
    facts: factsOf(report),
    tables: [machineTable(report)].filter(({ rows }) => rows.length > 0),
    footer: 'Dumont Cloud. Phases are the time spent in each, all attempts together, one after the other.',
  };
}

function verdictOf({ success, state, error }: FailoverReport): ReportDocument['verdict'] {
  if (state === 'averted') return { tone: 'good', text: 'Averted: the old machine serves on' };
  if (success === null) return { tone: 'running', text: `Under way: ${state}` };
  if (success) return { tone: 'good', text: 'The workspace is served again' };
  return { tone: 'bad', text: `Failed: ${error ?? 'no reason given'}` };
}

function barsOf(phases: FailoverReport['phases']): readonly Bar[] {
  const reached = PHASES.flatMap(([label, key]) => {
    const durationMs = phases[key];
    return durationMs === null ? [] : [{ label, durationMs }];
  });
  const sumMs = reached.reduce((sum, { durationMs }) => sum + durationMs, 0);
  let offsetMs = 0;
  return reached.map(({ label, durationMs }) => {
    const share = sumMs === 0 ? 0 : durationMs / sumMs;
    const bar: Bar = { label, offsetMs, durationMs, share, tone: 'good', note: null };
    offsetMs += durationMs;
    return bar;
  });
}

function claimsOf({ evidence }: FailoverReport): readonly Claim[] {
  return evidence.map(({ kind, hard, detail }) => ({
    text: `Loss: ${kind}`,
    ok: true,
    detail: [hard ? 'hard evidence' : 'soft evidence', ...(detail === undefined ? [] : [detail])].join(', '),
  }));
}

function factsOf(report: FailoverReport): ReportDocument['facts'] {
  const { snapshot, restore, check } = report;
  const facts: (readonly [string, string])[] = [['Why', report.reason]];
  if (snapshot !== null) {
    const sizes = `${formatBytes(snapshot.totalBytes)}, stored as ${formatBytes(snapshot.storedBytes)}`;
    facts.push(['Snapshot', `#${snapshot.seq} ${snapshot.snapshotId}, ${sizes}`]);
  }
  if (restore !== null) {
    const fetched = `${formatBytes(restore.bytesFetched)} fetched, ${formatBytes(restore.bytesWritten)} written`;
    facts.push(['Restore', `${restore.fileCount} files, ${fetched}, in ${formatDuration(restore.totalMs)}`]);
  }
  if (check !== null)
    facts.push(['Check', check.ok ? `${check.model ?? check.kind} answers` : (check.error ?? 'failed')]);
  if (report.epoch !== null) facts.push(['Epoch', String(report.epoch)]);
  if (report.loserInstanceIds.length > 0) facts.push(['Given back', report.loserInstanceIds.join(', ')]);
  return facts;
}

function machineTable({ from, to }: FailoverReport): ReportDocument['tables'][number] {
  const row = (which: string, machine: FailoverReport['to']) =>
    machine === null
      ? []
      : [
          [
            which,
            machine.instanceId,
            machine.gpuName,
            `${machine.provider}, ${machine.region}`,
            formatPrice(machine.priceMicroUsdPerHour),
          ],
        ];
  return {
    title: 'Machines',
    head: ['', 'Machine', 'GPU', 'Where', 'Price'],
    rows: [...row('from', from), ...row('to', to)],
    right: [4],
  };
}

function orDash(value: number | null, format: (value: number) => string): string {
  return value === null ? '–' : format(value);
}
