import { createColors } from 'picocolors';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { formatBytes, formatDuration } from '@dumont/shared/util/units.ts';
import { renderFacts } from '../../cli/output/facts.ts';
import { renderFailoverReport } from '../../cli/output/failover-report.ts';
import type { SpotLossReport } from './spot-loss.ts';

/** The training stand-in's pace. */
const STEP_MS = 100;

/** The scenario's report for people: the failover report, then what the comparison of the disks found. */
export function renderSpotLoss(report: SpotLossReport, stdout: NodeJS.WriteStream): string {
  const isTty = stdout.isTTY;
  const colors = createColors(isTty && process.env['NO_COLOR'] === undefined);
  const view = { colors, width: isTty ? stdout.columns : 100, isLive: isTty, clock: systemClock };
  const { filesVerified, filesWrong, bytesRestored, resumedFromCheckpoint, stepsRepeated } = report;
  const resumed =
    resumedFromCheckpoint === null
      ? ['from no checkpoint']
      : [`from ${resumedFromCheckpoint}`, `${stepsRepeated} steps of ${formatDuration(STEP_MS)} done again`];
  const verdict = report.ok ? colors.green('all kept') : colors.red('broken');
  const facts = renderFacts(view, [
    ['disks', [`${filesVerified} files as promised`, `${filesWrong} wrong`, `${formatBytes(bytesRestored)} restored`]],
    ['resumed', resumed],
    ['promises', [verdict, ...report.broken]],
  ]);
  return `\n${renderFailoverReport(view, report)}\n\n${facts}\n\n`;
}
