import type { OperationView, StepView } from '@dumont/shared/api/views.ts';
import { formatDuration } from '@dumont/shared/util/units.ts';
import type { Cli } from '../cli.ts';
import { formatAge, formatId } from './format.ts';
import { paintState } from './state.ts';

type View = Pick<Cli, 'colors' | 'isLive' | 'clock'>;

const STEP_WIDTH = 16;

/** An operation and its steps. */
export function renderOperation(cli: View, operation: OperationView): string {
  const nowMs = cli.clock.nowMs();
  const title = [
    cli.colors.bold(operation.kind),
    formatId(operation.operationId, cli.isLive),
    paintState(cli.colors, operation.state),
    operation.finishedAtMs === null
      ? `started ${formatAge(operation.createdAtMs, nowMs)}`
      : `${formatAge(operation.finishedAtMs, nowMs)}, took ${formatDuration(operation.finishedAtMs - operation.createdAtMs)}`,
  ].join(' · ');
  const error = operation.error === null ? [] : [cli.colors.red(operation.error)];
  return [title, ...error, ...operation.steps.map((step) => renderStep(cli, step, nowMs))].join('\n');
}

/** `✓ restoring   1.4 s`; a step under way shows how long it has been. */
export function renderStep(cli: View, step: StepView, nowMs: number, runningMark = '…'): string {
  const isOpen = step.endedAtMs === null;
  const durationMs = step.durationMs ?? Math.max(0, (step.endedAtMs ?? nowMs) - step.startedAtMs);
  const duration = formatDuration(durationMs).padStart(11);
  const outcome = step.outcome === null || step.outcome === 'done' ? '' : `  ${cli.colors.dim(step.outcome)}`;
  return `  ${markOf(cli, step, runningMark)} ${step.step.padEnd(STEP_WIDTH)}${isOpen ? cli.colors.dim(duration) : duration}${outcome}`;
}

function markOf(cli: View, step: StepView, runningMark: string): string {
  if (step.endedAtMs === null) return cli.colors.yellow(runningMark);
  return step.outcome !== null && /fail|error|gaveUp/i.test(step.outcome) ? cli.colors.red('✗') : cli.colors.green('✓');
}
