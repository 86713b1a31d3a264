import { readdir, readFile } from 'node:fs/promises';

/** What /proc tells about one process. */
export interface ProcessRow {
  readonly pid: number;
  readonly groupId: number;
  /** Clock ticks after boot when it started: with the pid, the identity of a process. */
  readonly startTicks: number;
  readonly isZombie: boolean;
}

/**
 * Parses a line of /proc/<pid>/stat. The command name stands in parentheses and may itself hold spaces and
 * parentheses, so fields count from the last one. Source: proc_pid_stat(5).
 * @returns null for text that is not such a line
 */
export function parseProcessStat(text: string): ProcessRow | null {
  const end = text.lastIndexOf(')');
  if (end === -1) return null;
  const pid = Number.parseInt(text, 10);
  const fields = text.slice(end + 2).split(' ');
  const groupId = Number(fields[2]);
  const startTicks = Number(fields[19]);
  if (!Number.isInteger(pid) || !Number.isInteger(groupId) || !Number.isFinite(startTicks)) return null;
  return { pid, groupId, startTicks, isZombie: fields[0] === 'Z' || fields[0] === 'X' };
}

/** Null when there is no such process, or no /proc. */
export async function readProcess(pid: number): Promise<ProcessRow | null> {
  const text = await readOrNull(`/proc/${pid}/stat`);
  return text === null ? null : parseProcessStat(text);
}

/** USER_HZ: the unit of times in /proc, the same on every architecture of Linux that we run on. */
const TICKS_PER_SECOND = 100;

/** How long ago a process with these start ticks was started, ms; 0 without /proc. */
export async function ageMs(startTicks: number): Promise<number> {
  const uptimeSeconds = Number.parseFloat((await readOrNull('/proc/uptime')) ?? '');
  if (!Number.isFinite(uptimeSeconds)) return 0;
  return Math.max(0, (uptimeSeconds - startTicks / TICKS_PER_SECOND) * 1_000);
}

/** Every process that is not a zombie; empty on systems without /proc. */
export async function listProcesses(): Promise<readonly ProcessRow[]> {
  let names: string[];
  try {
    names = await readdir('/proc');
  } catch {
    return [];
  }
  const pids = names.filter((name) => /^\d+$/.test(name)).map(Number);
  const rows = await Promise.all(pids.map((pid) => readProcess(pid)));
  return rows.filter((row) => row !== null).filter((row) => !row.isZombie);
}

/** True when the process was started with this variable; false when it is gone or belongs to someone else. */
export async function hasEnvironment(pid: number, name: string, value: string): Promise<boolean> {
  const text = await readOrNull(`/proc/${pid}/environ`);
  return text?.split('\0').includes(`${name}=${value}`) ?? false;
}

async function readOrNull(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch {
    return null;
  }
}
