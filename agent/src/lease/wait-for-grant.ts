import type { Standing } from '@dumont/shared/model/instance.ts';
import type { Assignment } from '@dumont/shared/protocol/hello.ts';
import type { Bell } from '@dumont/shared/util/bell.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';

/** Less than it takes to rent another machine. */
const GRANT_WAIT_MS = 30_000;

/**
 * The newest assignment, once it has a grant for the object store; without one after a while as well.
 * @param source.changed rings with every assignment
 * @throws {DumontError} CONFLICT when this instance is something else than `standing`
 */
export async function waitForGrant(
  source: { readonly newest: () => Assignment | null; readonly changed: Bell; readonly clock: Clock },
  standing: Standing,
  signal: AbortSignal,
): Promise<Assignment> {
  const { newest, changed, clock } = source;
  const untilMs = clock.monotonicMs() + GRANT_WAIT_MS;
  for (;;) {
    const assignment = newest();
    if (assignment?.standing !== standing) {
      throw new DumontError('CONFLICT', `this is for a ${standing} only, this instance is ${assignment?.standing}`);
    }
    const leftMs = untilMs - clock.monotonicMs();
    if (assignment.storage !== null || leftMs <= 0) return assignment;
    await changed.wait({ clock, atMostMs: leftMs, signal });
  }
}
