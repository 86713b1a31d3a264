import type { FailoverReport } from '@dumont/shared/api/failover-report.ts';
import { formatDuration } from '@dumont/shared/util/units.ts';
import type { Colors } from 'picocolors/types.js';
import type { Cli } from '../cli.ts';

type PhaseKey = keyof FailoverReport['phases'];
type PaintName = 'red' | 'yellow' | 'cyan' | 'blue' | 'magenta' | 'green' | 'greenBright' | 'dim';

const PHASES: readonly (readonly [label: string, key: PhaseKey, paint: PaintName])[] = [
  ['detect', 'detectMs', 'red'],
  ['search', 'searchMs', 'yellow'],
  ['provision', 'provisionMs', 'cyan'],
  ['restore', 'restoreMs', 'blue'],
  ['commit', 'commitMs', 'magenta'],
  ['resume', 'resumeMs', 'green'],
  ['switch', 'switchMs', 'greenBright'],
  // Users are served by now: the old machine is given back behind their backs.
  ['release', 'releaseMs', 'dim'],
];

const LABEL_WIDTH = 11;
const DURATION_WIDTH = 13;
/** A longer bar says no more. */
const MAX_BAR_WIDTH = 72;
const EIGHTHS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'] as const;

/**
 * The phases as a waterfall: each begins where the one before ended, its length drawn to an eighth of a character.
 * Phases not reached are left out. Pure.
 */
export function renderPhaseChart(cli: Pick<Cli, 'colors' | 'width'>, phases: FailoverReport['phases']): string {
  const reached = PHASES.flatMap(([label, key, paint]) => {
    const ms = phases[key];
    return ms === null ? [] : [{ label, ms, paint }];
  });
  const totalMs = reached.reduce((sum, phase) => sum + phase.ms, 0);
  const barWidth = Math.min(MAX_BAR_WIDTH, cli.width - LABEL_WIDTH - DURATION_WIDTH);
  let beforeMs = 0;
  const lines = reached.map(({ label, ms, paint }) => {
    const { offset, bar } = barOf({ beforeMs, ms, totalMs, barWidth });
    beforeMs += ms;
    const padding = ' '.repeat(barWidth - offset - bar.length);
    const painted = ' '.repeat(offset) + paintOf(cli.colors, paint)(bar) + padding;
    return cli.colors.dim(label.padEnd(LABEL_WIDTH)) + painted + formatDuration(ms).padStart(DURATION_WIDTH);
  });
  return lines.join('\n');
}

/** Where a phase's bar begins and what it looks like: at least a sliver, never past the right edge. */
export function barOf(phase: {
  readonly beforeMs: number;
  readonly ms: number;
  readonly totalMs: number;
  readonly barWidth: number;
}): { readonly offset: number; readonly bar: string } {
  const { beforeMs, ms, totalMs, barWidth } = phase;
  const widthOf = (ms: number) => (totalMs > 0 ? (ms / totalMs) * barWidth : 0);
  const offset = Math.min(barWidth - 1, Math.floor(widthOf(beforeMs)));
  const eighths = Math.max(1, Math.min((barWidth - offset) * 8, Math.round(widthOf(ms) * 8)));
  return { offset, bar: '█'.repeat(Math.floor(eighths / 8)) + (EIGHTHS[eighths % 8] ?? '') };
}

function paintOf(colors: Colors, name: PaintName): (text: string) => string {
  return colors[name];
}
