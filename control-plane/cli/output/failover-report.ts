import type { FailoverReport } from '@dumont/shared/api/failover-report.ts';
import { assertNever } from '@dumont/shared/util/assert.ts';
import { formatBytes, formatDuration } from '@dumont/shared/util/units.ts';
import type { Cli } from '../cli.ts';
import type { Fact } from './facts.ts';
import { renderFacts } from './facts.ts';
import { formatAge, formatId, formatPrice, formatCost } from './format.ts';
import { renderPhaseChart } from './phase-chart.ts';
import { paintState } from './state.ts';

type View = Pick<Cli, 'colors' | 'width' | 'isLive' | 'clock'>;

/** A failover's report for people: what it came to, where the time went, what was restored where. */
export function renderFailoverReport(cli: View, report: FailoverReport): string {
  const { colors } = cli;
  const when = formatAge(report.finishedAtMs ?? report.startedAtMs, cli.clock.nowMs());
  const title = [
    colors.bold(report.workspaceName),
    formatId(report.failoverId, cli.isLive),
    paintState(colors, report.state),
    when,
  ].join(' · ');
  const sections = [
    `${title}\n${failoverHeadline(cli, report)}`,
    renderPhaseChart(cli, report.phases),
    renderFacts(cli, factsOf(cli, report)),
  ];
  return sections.join('\n\n');
}

/** `served again in 4.2 s · lost 0.8 s of work · cost $0.0013`, or how else it stands. */
export function failoverHeadline(cli: Pick<View, 'colors'>, report: FailoverReport): string {
  const { colors } = cli;
  const cost = `cost ${formatCost(report.costMicroUsd)}`;
  if (report.state === 'averted') {
    const why = report.error === null ? 'the old machine answered again' : report.error;
    return [(report.error === null ? colors.green : colors.yellow)(`averted: ${why}`), cost].join(' · ');
  }
  if (report.state === 'failed') return [colors.red(`failed: ${report.error ?? 'no reason given'}`), cost].join(' · ');
  if (report.totalMs === null) return [colors.yellow(`still ${report.state}`), cost].join(' · ');
  const served = colors.green(`served again in ${colors.bold(formatSeconds(report.totalMs))}`);
  const lost = report.rpoMs === null ? 'no snapshot to restore' : `lost ${formatSeconds(report.rpoMs)} of work`;
  return [served, report.rpoMs === 0 ? 'lost nothing' : lost, cost].join(' · ');
}

function factsOf(cli: View, report: FailoverReport): readonly Fact[] {
  const { snapshot, restore } = report;
  const races = report.loserInstanceIds.length;
  const detail = (item: FailoverReport['evidence'][number]) => (item.detail === undefined ? '' : ` (${item.detail})`);
  return [
    ['why', [report.reason, ...(report.trigger === 'detector' ? ['found by the detector'] : [])]],
    ['evidence', report.evidence.map((item) => `${item.hard ? 'hard: ' : ''}${item.kind}${detail(item)}`)],
    ['from', machineParts(cli, report.from)],
    ['to', machineParts(cli, report.to)],
    ['race', races === 0 ? [] : [`${races + 1} machines rented`, `${races} given back`]],
    ['attempts', report.attempts > 1 ? [String(report.attempts)] : []],
    ['snapshot', snapshot === null ? [] : snapshotParts(cli, snapshot)],
    ['standby', standbyParts(report)],
    ['lost', report.rpoBytes === null ? [] : [`${formatBytes(report.rpoBytes)} at most`]],
    ['restore', restore === null ? [] : restoreParts(restore)],
    ['workload', workloadParts(report)],
    ['gateway', gatewayParts(report)],
    ['epoch', report.epoch === null ? [] : [String(report.epoch)]],
  ];
}

function machineParts(cli: View, machine: FailoverReport['from']): readonly string[] {
  if (machine === null) return [];
  return [
    machine.gpuName,
    machine.provider,
    machine.region,
    formatPrice(machine.priceMicroUsdPerHour),
    `${formatId(machine.instanceId, cli.isLive)} on ${machine.machineId}`,
  ];
}

function snapshotParts(cli: View, snapshot: NonNullable<FailoverReport['snapshot']>): readonly string[] {
  const ratio = snapshot.compressionRatio === null ? '' : ` (${snapshot.compressionRatio.toFixed(1)}×)`;
  return [
    `#${snapshot.seq} ${formatId(snapshot.snapshotId, cli.isLive)}`,
    formatBytes(snapshot.totalBytes),
    `${formatBytes(snapshot.newBytes)} new, stored as ${formatBytes(snapshot.storedBytes)}${ratio}`,
    `taken in ${formatDuration(snapshot.createMs)} to ${snapshot.storage}`,
  ];
}

function restoreParts(restore: NonNullable<FailoverReport['restore']>): readonly string[] {
  const hook = restore.hookMs >= 1 ? [`hook ${formatDuration(restore.hookMs)}`] : [];
  return [
    `${restore.fileCount} ${restore.fileCount === 1 ? 'file' : 'files'}`,
    `${formatBytes(restore.bytesWritten)} written, ${formatBytes(restore.bytesFetched)} fetched`,
    formatDuration(restore.totalMs),
    `download ${formatDuration(restore.downloadMs)}, decompress ${formatDuration(restore.decompressMs)}`,
    ...hook,
  ];
}

function workloadParts(report: FailoverReport): readonly string[] {
  if (report.workloadResumedAtMs === null) return [];
  const parts = [
    `running again ${formatSeconds(report.workloadResumedAtMs - report.silenceBeganAtMs)} after the last beat`,
  ];
  const { inference } = report;
  if (inference !== null) {
    parts.push(
      `${inference.model} ${inference.success ? `answered after ${formatDuration(inference.readyMs)}` : 'did not answer'}`,
    );
  }
  return parts;
}

function standbyParts({ standby }: FailoverReport): readonly string[] {
  if (standby === null) return [];
  const { outcome, savedMs, savedBytes, tookMs, reason } = standby;
  switch (outcome) {
    case 'pending':
      return ['is saving its copy'];
    case 'failed':
      return ['not used', ...(reason === null ? [] : [reason])];
    case 'nothing-newer':
      return ['had nothing newer than the last snapshot'];
    case 'saved':
      return [
        savedMs === null ? 'saved all of the work' : `saved ${formatSeconds(savedMs)} of work`,
        ...(savedBytes === null ? [] : [`${formatBytes(savedBytes)} new`]),
        ...(tookMs === null ? [] : [`in ${formatDuration(tookMs)}`]),
      ];
    default:
      return assertNever(outcome);
  }
}

function gatewayParts({ gatewayMs }: FailoverReport): readonly string[] {
  return gatewayMs === null ? [] : [`answered from the new machine ${formatDuration(gatewayMs)} after the commit`];
}

/** Tenths of a second up to a minute: the figure people compare failovers by. */
function formatSeconds(ms: number): string {
  return ms < 60_000 ? `${(Math.max(0, ms) / 1_000).toFixed(1)} s` : formatDuration(ms);
}
