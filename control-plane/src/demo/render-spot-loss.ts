import { createColors } from 'picocolors';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { formatBytes, formatDuration } from '@dumont/shared/util/units.ts';
import { renderFailoverReport } from '../../cli/output/failover-report.ts';
import type { SpotLossReport } from './spot-loss.ts';

/** The scenario's report for people: the failover report, then what the comparison of the disks found. */
export function renderSpotLoss(report: SpotLossReport, stdout: NodeJS.WriteStream): string {
  const isTty = stdout.isTTY;
  const view = {
    colors: createColors(isTty && process.env['NO_COLOR'] === undefined),
    width: isTty ? stdout.columns : 100,
    isLive: false,
    clock: systemClock,
  };
  const { filesVerified, filesWrong, bytesRestored } = report;
  const lines = [
    '',
    renderFailoverReport(view, report),
    '',
    `Verified against what had been written: ${filesVerified} files right, ${filesWrong} wrong (${formatBytes(bytesRestored)} restored)`,
    report.resumedFromCheckpoint === null
      ? 'The workload did not go on from a checkpoint'
      : `The workload went on from ${report.resumedFromCheckpoint}, repeating ${report.stepsRepeated} steps of ${formatDuration(STEP_MS)}`,
    ...report.broken.map((line) => `BROKEN  ${line}`),
    report.ok ? 'Every promise was kept.' : 'Something promised was lost.',
    '',
  ];
  return lines.join('\n');
}

/** The training stand-in's pace. */
const STEP_MS = 100;
