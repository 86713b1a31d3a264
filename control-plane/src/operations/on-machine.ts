import type { CommandId, InstanceId } from '@dumont/shared/model/ids.ts';
import type { Action, ActionResult, CommandProgress } from '@dumont/shared/protocol/command.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { OperationParts } from './operation-parts.ts';

/** How often a silent machine is looked at. */
const CONTACT_POLL_MS = 200;

/**
 * Runs a command on a machine that no detector watches, and fails when its agent says nothing for
 * `contactLossMs`: a machine lost while it is being prepared must not hold up the operation.
 * @throws {DumontError} UNAVAILABLE when contact was lost; otherwise what the agent answered, or TIMEOUT
 */
export async function runOnMachine<Name extends Action['name']>(
  parts: Pick<OperationParts, 'hub' | 'clock' | 'limits'>,
  instanceId: InstanceId,
  action: Extract<Action, { name: Name }>,
  options: {
    readonly commandId: CommandId;
    readonly timeoutMs: number;
    readonly onProgress?: (progress: CommandProgress) => void;
    readonly signal: AbortSignal;
  },
): Promise<Extract<ActionResult, { name: Name }>> {
  const lost = new AbortController();
  const done = new AbortController();
  const contact = watchContact(parts, instanceId, lost, AbortSignal.any([options.signal, done.signal]));
  try {
    const result = await parts.hub.run(instanceId, action, {
      ...options,
      signal: AbortSignal.any([options.signal, lost.signal]),
    });
    if (result.name === action.name) return result as Extract<ActionResult, { name: Name }>;
    throw new DumontError('PROTOCOL', `agent answered ${result.name} to the command ${action.name}`);
  } catch (error) {
    if (!lost.signal.aborted || options.signal.aborted) throw error;
    throw new DumontError('UNAVAILABLE', `lost contact with ${instanceId} during ${action.name}`, { cause: error });
  } finally {
    done.abort();
    await contact;
  }
}

async function watchContact(
  { hub, clock, limits }: Pick<OperationParts, 'hub' | 'clock' | 'limits'>,
  instanceId: InstanceId,
  lost: AbortController,
  signal: AbortSignal,
): Promise<void> {
  let lastSeenMs = clock.monotonicMs();
  while (!signal.aborted && !lost.signal.aborted) {
    lastSeenMs = Math.max(lastSeenMs, hub.heardAtMonotonicMs(instanceId) ?? lastSeenMs);
    if (clock.monotonicMs() - lastSeenMs > limits.contactLossMs) lost.abort(new Error('contact lost'));
    await clock.sleep(CONTACT_POLL_MS, signal).catch(() => {});
  }
}
