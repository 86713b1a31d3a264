import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import { constants } from 'node:os';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { systemErrorCode, toDumontError } from '@dumont/shared/util/errors.ts';
import { RUN_VARIABLE } from './end-run.ts';
import { ageMs, readProcess } from './process-table.ts';
import { readRunRecord, type RunRecord, writeRunRecord } from './run-record.ts';
import { openLog } from './workload-log.ts';

/** One run of the workload, whichever agent process started it. */
export interface Run {
  readonly record: RunRecord;
  /** Monotonic time at which it started, ms. */
  readonly startedMs: number;
  /** Null for exit code 0, else the failure in words. Never rejects; open for ever once let go. */
  readonly exited: Promise<string | null>;
  /** Stops looking at it: it lives on, and no longer keeps this process alive. Idempotent. */
  letGo(): void;
}

/** Where the traces of a run are kept for an agent that did not start it. */
export interface RunFiles {
  readonly recordPath: string;
  /** The wrapper writes `<runId> <exit code>` here when the command has ended. */
  readonly exitPath: string;
}

export interface RunOptions {
  readonly files: RunFiles;
  readonly command: string;
  readonly workspaceDir: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly logPath: string;
  readonly clock: Clock;
}

/**
 * Stays between the agent and the command, so that the exit code outlives an agent. Signals to the group reach the
 * command, for which the traps are reset; the wrapper itself waits for what the command makes of them.
 */
const WRAPPER = `trap : HUP INT TERM
/bin/sh -c "$1"
code=$?
printf '%s %s\\n' "$3" "$code" >"$2.tmp" && mv "$2.tmp" "$2"
exit "$code"`;

/** The end of a run that is no child of ours is noticed within this. Reading one file of /proc costs microseconds. */
const LOOK_MS = 200;

/**
 * Starts a command as a run of its own: process group, mark in the environment, record on disk.
 * @throws the system's error when it cannot be started, {@link DumontError} IO for the files
 */
export async function startRun(options: RunOptions): Promise<Run> {
  const { files, command, workspaceDir, environment, clock } = options;
  const runId = randomUUID();
  await using log = await openLog(options.logPath);
  await rm(files.exitPath, { force: true });
  // Recorded before it exists: should the agent die in between, the mark in its environment still finds it.
  await writeRunRecord(files.recordPath, { pid: 0, startTicks: 0, runId });
  const child = spawn('/bin/sh', ['-c', WRAPPER, 'dumont-workload', command, files.exitPath, runId], {
    cwd: workspaceDir,
    env: { ...environment, DUMONT_WORKSPACE_DIR: workspaceDir, [RUN_VARIABLE]: runId },
    detached: true,
    stdio: ['ignore', log.fd, log.fd],
  });
  const exited = exitOf(child);
  const pid = await pidOf(child);
  const record: RunRecord = { pid, startTicks: (await readProcess(pid))?.startTicks ?? 0, runId };
  const startedMs = clock.monotonicMs();
  await writeRunRecord(files.recordPath, record);
  return { record, startedMs, exited, letGo: () => child.unref() };
}

/**
 * Takes up the run that an earlier agent process recorded: one that lives is watched, one that ended since tells its
 * exit code.
 * @returns null when there is nothing to take up: no record, or a run that ended without a word, as after a restart of
 * the machine
 * @throws {DumontError} IO
 */
export async function adoptRun(files: RunFiles, clock: Clock): Promise<Run | null> {
  const record = await readRunRecord(files.recordPath);
  if (record === null || record.pid === 0) return null;
  if (await lives(record)) {
    const startedMs = clock.monotonicMs() - (await ageMs(record.startTicks));
    return { record, startedMs, ...watchEnd(record, files.exitPath, clock) };
  }
  const code = await readExitCode(files.exitPath, record.runId);
  if (code === null) return null;
  return { record, startedMs: clock.monotonicMs(), exited: Promise.resolve(failureOf(code)), letGo: () => {} };
}

function watchEnd(record: RunRecord, exitPath: string, clock: Clock): Pick<Run, 'exited' | 'letGo'> {
  let letGo = () => {};
  const exited = new Promise<string | null>((resolve) => {
    let isLooking = false;
    const look = async () => {
      if (isLooking) return;
      isLooking = true;
      if (!(await lives(record))) {
        letGo();
        resolve(await endOf(record, exitPath));
      }
      isLooking = false;
    };
    letGo = clock.every(LOOK_MS, () => void look());
  });
  return { exited, letGo: () => letGo() };
}

/** What a run that is gone ended with. Never rejects. */
async function endOf(record: RunRecord, exitPath: string): Promise<string | null> {
  try {
    const code = await readExitCode(exitPath, record.runId);
    return code === null ? 'no exit code: it was killed together with its shell' : failureOf(code);
  } catch (error) {
    return `an unknown exit code: ${toDumontError(error).message}`;
  }
}

async function lives(record: RunRecord): Promise<boolean> {
  const row = await readProcess(record.pid);
  return row !== null && !row.isZombie && row.startTicks === record.startTicks;
}

/** Null when the run left no word. @throws {DumontError} IO */
async function readExitCode(path: string, runId: string): Promise<number | null> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return null;
    throw toDumontError(error, 'IO', `reading ${path}`);
  }
  const [, writer, code] = /^(\S+) (\d{1,3})\n$/.exec(text) ?? [];
  return writer === runId ? Number(code) : null;
}

/** A shell tells a death by signal as 128 + its number. */
function failureOf(code: number): string | null {
  if (code === 0) return null;
  const name = Object.entries(constants.signals).find(([, number]) => number === code - 128)?.[0];
  return name === undefined ? `exit code ${code}` : `exit code ${code} (${name})`;
}

function pidOf(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('spawn', () => {
      if (child.pid !== undefined) resolve(child.pid);
    });
  });
}

function exitOf(child: ChildProcess): Promise<string | null> {
  return new Promise((resolve) => {
    child.once('exit', (code, signal) => {
      resolve(signal !== null ? `signal ${signal}` : failureOf(code ?? 0));
    });
  });
}
