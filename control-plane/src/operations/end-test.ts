import { listByOperation, listHeldByOperation } from '../store/instances.ts';
import { waitGone } from './move-steps.ts';
import type { StepContext, StepResult } from './operation-kind.ts';
import type { OperationParts } from './operation-parts.ts';

/** A test whose machine is not proven gone after this long ends all the same, as failed; the sweeper goes on for ever. */
const MAX_DESTROYING_MS = 1_800_000;

/** What every test knows of its end. */
interface TestEnd {
  /** What went wrong first; null while all is well. */
  readonly failure: string | null;
  /** When everything rented began to be given back, wall ms. */
  readonly destroyingSinceMs: number | null;
}

type EndEvent = 'stillThere' | 'destroyed' | 'destroyedAfterFailure';

/**
 * Gives back everything that a test rented and waits for the proof that it is gone: each machine's provider has denied
 * twice that it exists. Safe to repeat.
 */
export async function endTest<Data extends TestEnd>(
  parts: OperationParts,
  context: StepContext<Data>,
): Promise<StepResult<EndEvent, Data>> {
  const { clock, db } = parts;
  const { operationId, signal } = context;
  const data = { ...context.data, destroyingSinceMs: context.data.destroyingSinceMs ?? clock.nowMs() };
  if (context.data.destroyingSinceMs === null) await context.save(data);
  const renter = parts.renterFor(context);
  for (const { id } of await listHeldByOperation(db, operationId)) await renter.release(id, 'the test is over');
  const rented = (await listByOperation(db, operationId)).map(({ id }) => id);
  const left = await waitGone(parts, rented, { keep: undefined, signal });
  const detail = { destroyed: rented.filter((id) => !left.includes(id)), stillThere: left };
  if (left.length > 0) {
    if (clock.nowMs() - data.destroyingSinceMs < MAX_DESTROYING_MS) {
      return { event: 'stillThere', data, retryAfterMs: parts.limits.retryPauseMs };
    }
    const failure = data.failure ?? `not proven gone: ${left.join(', ')}; the sweeper goes on`;
    return { event: 'destroyedAfterFailure', data: { ...data, failure }, detail, error: failure };
  }
  if (data.failure === null) return { event: 'destroyed', data, detail };
  return { event: 'destroyedAfterFailure', data, detail, error: data.failure };
}

/** What a failed step means for a test: it is noted, the first one stays, and everything is given back. Pure. */
export function stepFailed<Data extends TestEnd>(
  data: Data,
  failure: string,
  detail: Readonly<Record<string, unknown>> = {},
): StepResult<'stepFailed', Data> {
  return { event: 'stepFailed', data: { ...data, failure: data.failure ?? failure }, detail, error: failure };
}
