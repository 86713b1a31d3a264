import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError, systemErrorCode } from '@dumont/shared/util/errors.ts';
import { hasEnvironment, listProcesses } from './process-table.ts';
import type { RunRecord } from './run-record.ts';

/** Marks every process of a run, so that those which made a session of their own are found as well. */
export const RUN_VARIABLE = 'DUMONT_WORKLOAD_RUN';

const POLL_MS = 25;
/** SIGKILL takes effect at once except in uninterruptible sleep, typically a driver or a network disk. */
const KILL_TIMEOUT_MS = 10_000;

/**
 * Ends every process of a run: SIGTERM, then after `graceMs` SIGKILL. Resolves when none is left. A pid that was
 * reused by someone else is not touched.
 * @throws {DumontError} IO when processes survive SIGKILL
 */
export async function endRun(run: RunRecord, graceMs: number, clock: Clock): Promise<void> {
  if (await signalUntilGone(run, 'SIGTERM', graceMs, clock)) return;
  if (await signalUntilGone(run, 'SIGKILL', KILL_TIMEOUT_MS, clock)) return;
  throw new DumontError('IO', `processes of the workload survive SIGKILL: ${(await processesOf(run)).join(', ')}`, {
    hint: 'They wait in the kernel, usually for a driver or a disk; only a restart of the machine ends them.',
  });
}

/** Process ids of a run: its process group, and whatever carries its mark in the environment. */
async function processesOf(run: RunRecord): Promise<readonly number[]> {
  const rows = await listProcesses();
  const leader = rows.find((row) => row.pid === run.pid);
  // A pid is not given out again while a group of that number lives, so without a leader the group is still ours.
  const isOurGroup = run.pid > 0 && (leader === undefined || leader.startTicks === run.startTicks);
  const pids = await Promise.all(
    rows.map(async (row) => {
      if (row.pid === process.pid) return [];
      if (isOurGroup && row.groupId === run.pid) return [row.pid];
      return (await hasEnvironment(row.pid, RUN_VARIABLE, run.runId)) ? [row.pid] : [];
    }),
  );
  return pids.flat();
}

/** Signals each process of the run once, newcomers as they appear; true when none is left in time. */
async function signalUntilGone(run: RunRecord, name: NodeJS.Signals, waitMs: number, clock: Clock): Promise<boolean> {
  const signalled = new Set<number>();
  const deadlineMs = clock.monotonicMs() + waitMs;
  for (;;) {
    const pids = await processesOf(run);
    if (pids.length === 0) return true;
    if (clock.monotonicMs() >= deadlineMs && signalled.size > 0) return false;
    for (const pid of pids) {
      if (signalled.has(pid)) continue;
      signalled.add(pid);
      sendSignal(pid, name);
    }
    await clock.sleep(POLL_MS);
  }
}

function sendSignal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    // Gone between the listing and now: what was wanted.
    if (systemErrorCode(error) !== 'ESRCH') throw error;
  }
}
