import type { TestReport } from '@dumont/shared/api/test-report.ts';
import { formatDuration } from '@dumont/shared/util/units.ts';
import type { Cli } from '../cli.ts';
import { formatShare } from '../report/document.ts';
import { stepLabel, verdictOf } from '../report/test-document.ts';
import type { Fact } from './facts.ts';
import { renderFacts } from './facts.ts';
import { formatAge, formatCost, formatId, formatPrice } from './format.ts';
import { barOf } from './phase-chart.ts';
import { paintState } from './state.ts';

type View = Pick<Cli, 'colors' | 'width' | 'isLive' | 'clock'>;

const LABEL_WIDTH = 24;
const FIGURES_WIDTH = 24;
const MAX_BAR_WIDTH = 60;

/** A test's report for people: the verdict, where the time went, what was found, what it cost. */
export function renderTestReport(cli: View, report: TestReport): string {
  const { colors } = cli;
  const title = [
    colors.bold(report.workspaceName ?? report.machines[0]?.provider ?? 'test'),
    report.kind,
    formatId(report.testId, cli.isLive),
    paintState(colors, report.state),
    formatAge(report.finishedAtMs ?? report.startedAtMs, cli.clock.nowMs()),
  ].join(' · ');
  const verdict = verdictOf(report);
  const paint = verdict.tone === 'good' ? colors.green : verdict.tone === 'bad' ? colors.red : colors.yellow;
  const money = `${formatDuration(report.totalMs)} · cost ${formatCost(report.costMicroUsd)}`;
  return [
    `${title}\n${paint(verdict.text)}\n${money}`,
    stepLines(cli, report).join('\n'),
    report.evidence.map((claim) => claimLine(cli, claim)).join('\n'),
    renderFacts(cli, machineFacts(cli, report)),
  ]
    .filter((part) => part !== '')
    .join('\n\n');
}

/** Each step's bar at its place in time, with its duration and its share. */
function stepLines({ colors, width }: View, { steps }: TestReport): readonly string[] {
  const totalMs = Math.max(1, ...steps.map(({ offsetMs, durationMs }) => offsetMs + durationMs));
  const barWidth = Math.max(8, Math.min(MAX_BAR_WIDTH, width - LABEL_WIDTH - FIGURES_WIDTH));
  return steps.map(({ step, offsetMs, durationMs, share, outcome }) => {
    const { offset, bar } = barOf({ beforeMs: offsetMs, ms: durationMs, totalMs, barWidth });
    const isBad = outcome !== null && /fail|cancelled/i.test(outcome);
    const paint = outcome === null ? colors.yellow : isBad ? colors.red : colors.cyan;
    const padding = ' '.repeat(Math.max(0, barWidth - offset - bar.length));
    const figures = `${formatDuration(durationMs).padStart(12)} ${formatShare(share).padStart(8)}`;
    return `${colors.dim(stepLabel(step).padEnd(LABEL_WIDTH))}${' '.repeat(offset)}${paint(bar)}${padding}${figures}`;
  });
}

function claimLine({ colors }: View, { claim, ok, detail }: TestReport['evidence'][number]): string {
  const mark = ok ? colors.green('✓') : colors.red('✗');
  return `${mark} ${claim}  ${colors.dim(detail)}`;
}

function machineFacts(cli: View, { machines }: TestReport): readonly Fact[] {
  return machines.map((machine, index) => [
    index === 0 ? 'machine' : 'besides',
    [
      formatId(machine.instanceId, cli.isLive),
      machine.gpuName,
      machine.provider,
      machine.region,
      formatPrice(machine.priceMicroUsdPerHour),
      `cost ${formatCost(machine.costMicroUsd)}`,
      machine.goneAtMs === null ? 'not proven gone' : 'proven gone',
    ],
  ]);
}
