import { Deadline } from '@dumont/shared/util/deadline.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import type { Check, CheckResult, Finding } from './check.ts';
import type { Situation } from './situation.ts';

/** Everything local answers at once; what waits for a network has limits of its own below this. */
const DEFAULT_TIME_LIMIT_MS = 20_000;

/**
 * Runs the checks side by side, each within its time; what throws or takes too long is a finding like any other.
 * @returns in the order of `checks`
 * @throws {DumontError} ABORTED
 */
export async function runChecks(
  checks: readonly Check[],
  situation: Situation,
  signal: AbortSignal,
): Promise<readonly CheckResult[]> {
  const results = await Promise.all(checks.map((check) => runOne(check, situation, signal)));
  if (signal.aborted) throw new DumontError('ABORTED', 'stopped on request', { cause: signal.reason });
  return results;
}

/** The checks of these ids, in the order of the table. @throws {DumontError} USAGE for an unknown id */
export function selectChecks(checks: readonly Check[], ids: readonly string[]): readonly Check[] {
  const unknown = ids.filter((id) => !checks.some((check) => check.id === id));
  if (unknown.length > 0) {
    throw new DumontError('USAGE', `there is no check ${unknown.map((id) => JSON.stringify(id)).join(', ')}`, {
      field: 'only',
      hint: `Checks: ${checks.map(({ id }) => id).join(', ')}`,
    });
  }
  return checks.filter(({ id }) => ids.includes(id));
}

async function runOne(check: Check, situation: Situation, signal: AbortSignal): Promise<CheckResult> {
  const { clock } = situation;
  const startedMs = clock.monotonicMs();
  const limitMs = check.timeLimitMs ?? DEFAULT_TIME_LIMIT_MS;
  using deadline = new Deadline(clock, limitMs, signal);
  const finding = await Promise.race([
    check.run(situation, deadline.signal).catch(findingOf),
    overdue(deadline.signal, `it did not end within ${limitMs / 1_000} s`),
  ]);
  const { id, title } = check;
  const { status, detail, fix } = finding;
  return { id, title, status, detail, fix: fix ?? null, ms: Math.round(clock.monotonicMs() - startedMs) };
}

function findingOf(error: unknown): Finding {
  const { message, hint } = toDumontError(error);
  return { status: 'fail', detail: message, fix: hint ?? 'Run the doctor again; if this stays, report it.' };
}

function overdue(signal: AbortSignal, detail: string): Promise<Finding> {
  return new Promise((resolve) => {
    const give = () =>
      resolve({ status: 'fail', detail, fix: 'Something this check needs hangs: a disk or a driver.' });
    if (signal.aborted) give();
    else signal.addEventListener('abort', give, { once: true });
  });
}
