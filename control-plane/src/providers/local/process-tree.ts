import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError, systemErrorCode } from '@dumont/shared/util/errors.ts';

/** One incarnation of a process id: the id alone may be reused by a stranger. */
export interface ProcessIdentity {
  readonly pid: number;
  /** The system's own start stamp; opaque, equal for the same process only. */
  readonly startedAt: string;
}

/** Every process of a machine carries this variable, also those that left its session. */
export const MACHINE_REF_VARIABLE = 'DUMONT_MACHINE_REF';

const onLinux = process.platform === 'linux';

/** Start times count from the boot of the computer, so they mean nothing without its id. */
const BOOT_ID = onLinux ? readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim() : '';

/** The kernel needs a moment to tear a large process down; one stuck in the kernel this long will not go at all. */
const SIGNAL_DEADLINE_MS = 10_000;
const SIGNAL_POLL_MS = 5;

interface ProcessEntry extends ProcessIdentity {
  readonly parentPid: number;
  readonly sessionId: number;
  /** One letter as in `ps`: R, S, D, T (stopped), t (traced), Z (zombie), X (dead). */
  readonly state: string;
}

/** The identity of a live process, null when there is none (zombies are dead). */
export async function identify(pid: number): Promise<ProcessIdentity | null> {
  if (onLinux) {
    const entry = readEntry(pid);
    return entry === null || isDead(entry) ? null : { pid, startedAt: entry.startedAt };
  }
  const startedAt = await psField(pid, 'lstart');
  return startedAt === '' ? null : { pid, startedAt };
}

/** True while exactly this process lives, stopped or not. */
export async function isAlive(identity: ProcessIdentity): Promise<boolean> {
  const now = await identify(identity.pid);
  return now !== null && now.startedAt === identity.startedAt;
}

/** Which processes make up one machine: found by `ref` on Linux, by the leader's group elsewhere. */
export interface MachineProcesses {
  readonly ref: string;
  readonly leader: ProcessIdentity | null;
}

/** SIGKILL to every process of the machine, again and again until none is left; the caller's own process is spared. */
export async function killMachine(machine: MachineProcesses, clock: Clock): Promise<void> {
  await signalUntil(machine, clock, { signal: 'SIGKILL', done: isDead });
}

/** SIGSTOP to every process of the machine until all of them are stopped. */
export async function stopMachine(machine: MachineProcesses, clock: Clock): Promise<void> {
  await signalUntil(machine, clock, { signal: 'SIGSTOP', done: isStopped });
}

/** SIGCONT to every process of the machine until none is stopped. */
export async function continueMachine(machine: MachineProcesses, clock: Clock): Promise<void> {
  await signalUntil(machine, clock, { signal: 'SIGCONT', done: (entry) => entry.state !== 'T' });
}

/** The machine's live processes, the caller's own left out. */
export async function livePids(machine: MachineProcesses): Promise<readonly number[]> {
  const entries = await findEntries(machine);
  return entries.filter((entry) => !isDead(entry)).map((entry) => entry.pid);
}

interface Aim {
  readonly signal: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT';
  readonly done: (entry: ProcessEntry, signalled: boolean) => boolean;
}

/**
 * A process that forks and exits while it is being listed hides its child from that listing, so the aim counts as
 * reached only when two listings in a row find nothing to do.
 */
async function signalUntil(machine: MachineProcesses, clock: Clock, aim: Aim): Promise<void> {
  const deadlineMs = clock.monotonicMs() + SIGNAL_DEADLINE_MS;
  const signalled = new Set<number>();
  let cleanListings = 0;
  while (cleanListings < 2) {
    const entries = await findEntries(machine);
    const pending = entries.filter((entry) => !aim.done(entry, signalled.has(entry.pid)));
    if (pending.length === 0) {
      cleanListings += 1;
      continue;
    }
    cleanListings = 0;
    if (clock.monotonicMs() >= deadlineMs) {
      const pids = pending.map((entry) => entry.pid).join(', ');
      throw new DumontError('PROVIDER', `${aim.signal} to machine ${machine.ref} left processes ${pids} as they were`, {
        retryable: true,
      });
    }
    for (const entry of pending) {
      sendSignal(entry, aim.signal);
      signalled.add(entry.pid);
    }
    await clock.sleep(SIGNAL_POLL_MS);
  }
}

function sendSignal(entry: ProcessEntry, signal: Aim['signal']): void {
  // Looked at again right before: the listing is some milliseconds old.
  if (onLinux && readEntry(entry.pid)?.startedAt !== entry.startedAt) return;
  try {
    process.kill(onLinux ? entry.pid : -entry.pid, signal);
  } catch (error) {
    if (systemErrorCode(error) !== 'ESRCH') {
      throw new DumontError('PROVIDER', `cannot send ${signal} to process ${entry.pid}`, { cause: error });
    }
  }
}

async function findEntries(machine: MachineProcesses): Promise<readonly ProcessEntry[]> {
  return onLinux ? findByReference(machine) : findByGroup(machine);
}

/**
 * Marked processes, the leader, and whatever descends from them or shares a session they opened: a child that cleared
 * its environment is still found while its parent lives.
 */
async function findByReference({ ref, leader }: MachineProcesses): Promise<readonly ProcessEntry[]> {
  const names = await readdir('/proc');
  const pids = names.filter((name) => /^[0-9]+$/.test(name)).map(Number);
  const entries = pids.map(readEntry).filter((entry) => entry !== null);
  const marked = await Promise.all(entries.map((entry) => isMarked(entry.pid, ref)));
  const isLeader = (entry: ProcessEntry) => entry.pid === leader?.pid && entry.startedAt === leader.startedAt;
  const members = new Set(entries.filter((entry, index) => marked[index] === true || isLeader(entry)));
  const memberPids = new Set([...members].map((entry) => entry.pid));
  for (let grown = true; grown;) {
    const found = entries.filter(
      (entry) => !members.has(entry) && (memberPids.has(entry.parentPid) || memberPids.has(entry.sessionId)),
    );
    for (const entry of found) {
      members.add(entry);
      memberPids.add(entry.pid);
    }
    grown = found.length > 0;
  }
  return [...members].filter((entry) => entry.pid !== process.pid);
}

async function isMarked(pid: number, ref: string): Promise<boolean> {
  try {
    const environment = await readFile(`/proc/${pid}/environ`, 'latin1');
    return `\0${environment}`.includes(`\0${MACHINE_REF_VARIABLE}=${ref}\0`);
  } catch {
    // Gone since, or another user's: either way not one of the machine's.
    return false;
  }
}

async function findByGroup({ leader }: MachineProcesses): Promise<readonly ProcessEntry[]> {
  if (leader === null || !(await isAlive(leader)) || leader.pid === process.pid) return [];
  const state = (await psField(leader.pid, 'stat')).charAt(0);
  return [{ ...leader, parentPid: 0, sessionId: leader.pid, state }];
}

function isDead(entry: ProcessEntry): boolean {
  return entry.state === 'Z' || entry.state === 'X';
}

/**
 * Stopped, or held in the kernel with the stop waiting for it: a parent in the middle of vfork stays there as long as
 * its stopped child does.
 */
function isStopped(entry: ProcessEntry, signalled: boolean): boolean {
  return entry.state === 'T' || isDead(entry) || (signalled && entry.state === 'D');
}

/** proc_pid_stat(5): the name in parentheses may hold anything, so fields are counted from its last parenthesis. */
function readEntry(pid: number): ProcessEntry | null {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return null;
  }
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state = '', parentPid = '', , sessionId = ''] = fields;
  const startTicks = fields[19] ?? '';
  return {
    pid,
    state,
    parentPid: Number(parentPid),
    sessionId: Number(sessionId),
    startedAt: `${BOOT_ID}/${startTicks}`,
  };
}

async function psField(pid: number, field: string): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)('ps', ['-o', `${field}=`, '-p', String(pid)]);
    return stdout.trim();
  } catch {
    // `ps` exits with 1 when there is no such process.
    return '';
  }
}
