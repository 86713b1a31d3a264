import type { OperationId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { Queryable } from '../store/database.ts';
import { appendEvent } from '../store/events.ts';
import { saveProgress } from '../store/operations.ts';
import { endStep, startStep } from '../store/steps.ts';

/** The open row of the state an operation is in. */
export interface OpenStep {
  readonly position: number;
  readonly startedAtMs: number;
  /** Monotonic time of this process at the start; undefined when another process, or an earlier life of this one, opened it. */
  readonly startedMonotonicMs: number | undefined;
}

/** One move of an operation from a state to the next, as it is written down. */
export interface Transition {
  readonly operationId: OperationId;
  readonly workspaceId: WorkspaceId;
  readonly kind: string;
  readonly owner: string;
  readonly from: string;
  readonly to: string;
  readonly event: string;
  readonly data: object;
  readonly detail: Readonly<Record<string, unknown>>;
  readonly error: string | null;
  readonly isOver: boolean;
  readonly step: OpenStep;
  readonly atMs: number;
  readonly monotonicMs: number;
  /** Wall time before which the next step must not run. */
  readonly runAtMs: number;
}

/**
 * Writes a transition, all of it or nothing: the operation's state, the end of the step, the start of the next, the
 * events. Call it inside a transaction.
 * @returns the open row of the next step (undefined when the operation is over); `lost` when the operation is no longer
 *   ours or has moved: nothing was written
 */
export async function recordTransition(tx: Queryable, transition: Transition): Promise<OpenStep | undefined | 'lost'> {
  const { operationId, workspaceId, kind, from, to, event, step, atMs, monotonicMs, isOver, error } = transition;
  const isOurs = await saveProgress(tx, operationId, {
    owner: transition.owner,
    fromState: from,
    state: to,
    data: transition.data as Readonly<Record<string, unknown>>,
    atMs,
    finished: isOver,
    error,
    runAtMs: transition.runAtMs,
  });
  if (!isOurs) return 'lost';
  const durationMs = stepDurationMs(step, atMs, monotonicMs);
  const { position } = step;
  await endStep(tx, operationId, { position, atMs, durationMs, outcome: event, detail: transition.detail });
  const next = isOver ? undefined : await startStep(tx, operationId, to, atMs);
  const about = { atMs, workspaceId, operationId };
  await appendEvent(tx, {
    ...about,
    type: 'operation.step',
    data: { kind, from, to, event, step: position, durationMs, ...(error === null ? {} : { error }) },
  });
  if (next === undefined) {
    await appendEvent(tx, { ...about, type: 'operation.finished', data: { kind, state: to } });
    return undefined;
  }
  return { position: next.position, startedAtMs: next.startedAtMs, startedMonotonicMs: monotonicMs };
}

/** By the monotonic clock when this process saw the whole step, else the wall difference, at least 0: wall clocks step. */
function stepDurationMs(step: OpenStep, atMs: number, monotonicMs: number): number {
  if (step.startedMonotonicMs !== undefined) return monotonicMs - step.startedMonotonicMs;
  return Math.max(0, atMs - step.startedAtMs);
}
