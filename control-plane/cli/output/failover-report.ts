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
  const early = report.standby?.takeoverMs ?? null;
  const onStandby = early === null ? [] : [`on the standby in ${formatSeconds(early)}`];
  return [served, ...onStandby, report.rpoMs === 0 ? 'lost nothing' : lost, cost].join(' · ');
}

const TRIGGERS: Readonly<Record<FailoverReport['trigger'], readonly string[]>> = {
  detector: ['found by the detector'],
  operator: [],
  preempted: ['said by the machine'],
  standby: ['users were left on the standby'],
  unserved: ['the failover before it gave up'],
};

function factsOf(cli: View, report: FailoverReport): readonly Fact[] {
  const { snapshot, restore } = report;
  const detail = (item: FailoverReport['evidence'][number]) => (item.detail === undefined ? '' : ` (${item.detail})`);
  return [
    ['why', [report.reason, ...TRIGGERS[report.trigger]]],
    ['evidence', report.evidence.map((item) => `${item.hard ? 'hard: ' : ''}${item.kind}${detail(item)}`)],
    ['from', machineParts(cli, report.from)],
    ['to', machineParts(cli, report.to)],
    ['chosen', placementParts(report)],
    ['race', raceParts(report)],
    ['attempts', report.attempts > 1 ? [String(report.attempts)] : []],
    ['snapshot', snapshot === null ? [] : snapshotParts(cli, snapshot)],
    ['standby', standbyParts(report)],
    ['lost', report.rpoBytes === null ? [] : [`${formatBytes(report.rpoBytes)} at most`]],
    ['branch', branchParts(cli, report)],
    ['restore', restore === null ? [] : restoreParts(restore)],
    ['workload', workloadParts(report)],
    ['checkpoint', checkpointParts(restore?.checkpoints)],
    ['gateway', gatewayParts(report)],
    ['epoch', report.epoch === null ? [] : [String(report.epoch)]],
  ];
}

/** Why this offer: what an hour on it was expected to cost, and what was given up to find it. */
function placementParts({ placement }: FailoverReport): readonly string[] {
  if (placement === null) return [];
  const { score, widened } = placement;
  const loss = `${(score.expectedLoss * 100).toFixed(1)} % loss`;
  return [
    `${formatPrice(score.totalMicroUsd)} expected`,
    `with ${loss} and ${formatDuration(score.restoreS * 1_000)} of restore`,
    ...(score.standbyRttMs === null ? [] : [`${Math.round(score.standbyRttMs)} ms from the standby`]),
    ...(widened.length === 0 ? [] : [`not as preferred: ${widened.map((name) => WIDENED[name]).join(', ')}`]),
  ];
}

const WIDENED = { gpuNames: 'GPU', regions: 'region', price: 'price' } as const;

function raceParts({ loserInstanceIds, loserCostMicroUsd }: FailoverReport): readonly string[] {
  const losers = loserInstanceIds.length;
  if (losers === 0) return [];
  return [`${losers + 1} machines rented`, `${losers} given back for ${formatCost(loserCostMicroUsd)}`];
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
  const fromPeer = restore.bytesFromPeer ?? 0;
  const peer = fromPeer > 0 ? [`${formatBytes(fromPeer)} from the standby`] : [];
  const hook = restore.hookMs >= 1 ? [`hook ${formatDuration(restore.hookMs)}`] : [];
  return [
    `${restore.fileCount} ${restore.fileCount === 1 ? 'file' : 'files'}`,
    `${formatBytes(restore.bytesWritten)} written, ${formatBytes(restore.bytesFetched)} fetched`,
    ...peer,
    formatDuration(restore.totalMs),
    `download ${formatDuration(restore.downloadMs)}, decompress ${formatDuration(restore.decompressMs)}`,
    ...hook,
  ];
}

/** What the workload resumed from, and what it was kept from. */
function checkpointParts(checkpoints: NonNullable<FailoverReport['restore']>['checkpoints']): readonly string[] {
  if (checkpoints === undefined || checkpoints.completeCount + checkpoints.incompleteCount === 0) return [];
  const { latest, incompleteCount, incomplete } = checkpoints;
  const names = incomplete.slice(0, 3).map(({ path }) => path);
  const more = incompleteCount > names.length ? `${names.join(', ')}, …` : names.join(', ');
  return [
    latest === null ? 'none is whole' : `newest whole one: ${latest}`,
    ...(incompleteCount === 0 ? [] : [`${incompleteCount} not whole: ${more}`]),
  ];
}

function workloadParts(report: FailoverReport): readonly string[] {
  if (report.workloadResumedAtMs === null) return [];
  const parts = [
    `running again ${formatSeconds(report.workloadResumedAtMs - report.silenceBeganAtMs)} after the last beat`,
  ];
  const { check } = report;
  if (check !== null) parts.push(...checkParts(check));
  return parts;
}

/** `llama3.2 ready after 1.2 s, first token after 40 ms, 16 tokens`, or why there was none. */
function checkParts(check: NonNullable<FailoverReport['check']>): readonly string[] {
  const who = check.model ?? 'HTTP';
  if (!check.ok) return [`${who} does not answer: ${check.error ?? 'no reason given'}`];
  const ready = check.readyMs === null ? '' : `ready after ${formatDuration(check.readyMs)}, `;
  if (check.firstTokenMs === null) return [`${who} answered after ${formatDuration(check.readyMs ?? 0)}`];
  return [`${who} ${ready}first token after ${formatDuration(check.firstTokenMs)}, ${check.tokens ?? 0} tokens`];
}

/** What the standby of a failover did, in a few words each; empty without one. */
export function standbyParts({ standby }: FailoverReport): readonly string[] {
  if (standby === null) return [];
  const { outcome, reason, takeoverMs, gatewayMs, servedMs, pauseMs } = standby;
  if (outcome === 'not-used') return ['not used', ...(reason === null ? [] : [reason])];
  const taken = takeoverMs === null ? [] : [`took over ${formatSeconds(takeoverMs)} after the last beat`];
  const answered = gatewayMs === null ? [] : [`answered ${formatDuration(gatewayMs)} later`];
  return [...taken, ...answered, endOfStandby(outcome, servedMs), ...(pauseMs === null ? [] : [pausePart(pauseMs)])];
}

function endOfStandby(
  outcome: Exclude<NonNullable<FailoverReport['standby']>['outcome'], 'not-used'>,
  servedMs: number | null,
): string {
  const served = servedMs === null ? '' : ` after ${formatSeconds(servedMs)}`;
  switch (outcome) {
    case 'serves':
      return 'users work on it';
    case 'handed-over':
      return `handed over${served}`;
    case 'lost':
      return `lost as well${served}`;
    default:
      return assertNever(outcome);
  }
}

function pausePart(pauseMs: number): string {
  return `pause ${formatDuration(pauseMs)}`;
}

function branchParts(cli: View, { branches }: FailoverReport): readonly string[] {
  return branches.flatMap(({ branchId, state, addedCount, changedCount, changedBytes }) => [
    `${formatId(branchId, cli.isLive)} ${state}`,
    `${addedCount + changedCount} late files of the old machine, ${formatBytes(changedBytes)}`,
    ...(state === 'open' ? [`dumont branches merge ${branchId}`] : []),
  ]);
}

function gatewayParts({ gatewayMs }: FailoverReport): readonly string[] {
  return gatewayMs === null ? [] : [`answered from the new machine ${formatDuration(gatewayMs)} after the commit`];
}

/** Tenths of a second up to a minute: the figure people compare failovers by. */
function formatSeconds(ms: number): string {
  return ms < 60_000 ? `${(Math.max(0, ms) / 1_000).toFixed(1)} s` : formatDuration(ms);
}
