import type { MachineStatus } from '../provider.ts';
import type { HostStatus, MarkName } from './machine-folder.ts';

/** Everything that can be observed of one machine. Times are wall milliseconds. */
export interface MachineFacts {
  readonly createdAtMs: number;
  readonly marks: Readonly<Record<MarkName, number | null>>;
  /** `none`: no host process ever took the machine. */
  readonly host: 'none' | 'alive' | 'dead';
  readonly status: HostStatus | null;
  readonly nowMs: number;
  /** How late the provider notices a silent machine. */
  readonly offlineAfterMs: number;
}

export interface ReportedStatus {
  readonly status: MachineStatus;
  readonly rawStatus: 'loading' | 'running' | 'exited' | 'offline' | null;
  readonly statusMessage: string | null;
}

/** An order whose host process has not appeared by then was interrupted half-way; ordering it again starts it. */
const HOST_START_DEADLINE_MS = 30_000;

/**
 * What the marketplace says of a machine: at once when it took the machine itself, late when the machine merely fell
 * silent, as real ones do. Pure.
 */
export function reportStatus(facts: MachineFacts): ReportedStatus {
  const { marks, nowMs, offlineAfterMs } = facts;
  if (marks.destroyed !== null) return report('stopped', 'exited', 'being destroyed');
  if (marks.killed !== null) return report('interrupted', 'exited', 'outbid: the host was given to another customer');
  if (facts.host === 'dead') return report('interrupted', 'exited', 'the host process ended');
  if (facts.host === 'none') {
    return nowMs - facts.createdAtMs < HOST_START_DEADLINE_MS
      ? report('pending', null, null)
      : report('failed', null, 'the host never started');
  }
  const silentSinceMs = earliest(marks.frozen, marks.cut);
  if (silentSinceMs !== null && nowMs - silentSinceMs >= offlineAfterMs) {
    return report('unreachable', 'offline', 'the host does not answer');
  }
  if (facts.status === null) return report('pending', null, null);
  return facts.status.phase === 'running'
    ? report('running', 'running', null)
    : report('pending', 'loading', 'preparing the machine');
}

function report(
  status: MachineStatus,
  rawStatus: ReportedStatus['rawStatus'],
  statusMessage: string | null,
): ReportedStatus {
  return { status, rawStatus, statusMessage };
}

function earliest(a: number | null, b: number | null): number | null {
  if (a === null) return b;
  return b === null ? a : Math.min(a, b);
}
