import { DumontError } from '../util/errors.ts';

/**
 * The two files by which an agent and its supervisor settle an upgrade, both in the agent's state directory. The agent
 * writes `upgrade.pending` before it switches versions, and the new one removes it once the control plane has welcomed
 * it. When that does not happen, the supervisor switches back and renames the file to `upgrade.failed`, with a reason;
 * the old agent tells the control plane and removes it.
 */
export const UPGRADE_PENDING = 'upgrade.pending';
export const UPGRADE_FAILED = 'upgrade.failed';

/** How long a new version has to be welcomed before its supervisor switches back. */
export const UPGRADE_DEADLINE_MS = 30_000;

export interface UpgradeNote {
  readonly from: string;
  readonly to: string;
  /** Why it was rolled back. */
  readonly reason?: string;
}

/** Far more than a version and a sentence take. */
const MAX_VALUE_CHARS = 500;

/** One `name=value` per line, as a shell reads it without evaluating anything. */
export function formatUpgradeNote(note: UpgradeNote): string {
  return Object.entries(note)
    .map(([name, value]: [string, string]) => `${name}=${value.replaceAll(/\s+/g, ' ').slice(0, MAX_VALUE_CHARS)}\n`)
    .join('');
}

/** @throws {DumontError} CORRUPT when a version is missing */
export function parseUpgradeNote(text: string): UpgradeNote {
  const values = new Map(
    text.split('\n').flatMap((line) => {
      const equals = line.indexOf('=');
      return equals === -1
        ? []
        : [[line.slice(0, equals), line.slice(equals + 1, equals + 1 + MAX_VALUE_CHARS)] as const];
    }),
  );
  const [from, to, reason] = [values.get('from'), values.get('to'), values.get('reason')];
  if (from === undefined || to === undefined) throw new DumontError('CORRUPT', 'an upgrade note names no versions');
  return reason === undefined ? { from, to } : { from, to, reason };
}
