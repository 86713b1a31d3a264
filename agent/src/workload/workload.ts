import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type { Workload as WorkloadSpec } from '@dumont/shared/model/policy.ts';
import { nextState } from '@dumont/shared/model/transition.ts';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { WorkloadState } from '@dumont/shared/protocol/heartbeat.ts';
import { type BackoffPolicy, backoffMs } from '@dumont/shared/util/backoff.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError, systemErrorCode, toDumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import { endRun, RUN_VARIABLE } from './end-run.ts';
import { readProcess } from './process-table.ts';
import { readRunRecord, removeRunRecord, type RunRecord, writeRunRecord } from './run-record.ts';
import { openLog, rotateLog, tailOfLog } from './workload-log.ts';
import { WORKLOAD_TABLE, type WorkloadEvent } from './workload-state.ts';

/** A crash loop must neither eat the machine nor wait long after a one-off. */
const RESTART: BackoffPolicy = { baseMs: 1_000, capMs: 60_000 };
/** A run this long was healthy: its crash counts as the first again. */
const HEALTHY_MS = 60_000;
const ROTATE_CHECK_MS = 1_000;
/** Leftovers of an earlier agent get this long to end before they are killed. */
const LEFTOVER_GRACE_MS = 2_000;

export interface WorkloadOptions {
  readonly workspaceDir: string;
  readonly stateDir: string;
  /** Environment of the user's command; secrets of the agent already taken out. */
  readonly environment: Readonly<Record<string, string>>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** Called after every change of the state. Must not throw. */
  readonly onState: (state: WorkloadState) => void;
  readonly restart?: BackoffPolicy;
  readonly logLimitBytes?: number;
}

interface Run {
  readonly record: RunRecord;
  readonly startedMs: number;
  readonly exited: Promise<string | null>;
}

/**
 * Supervises the user's command: one process group at a time, started again with backoff when it fails, its output in
 * `<stateDir>/workload.log`. Processes that an earlier agent left behind are ended before a new run starts, so two
 * copies never run at once. The command outlives a killed agent; it ends only by {@link stop}.
 */
export class Workload implements AsyncDisposable {
  readonly logPath: string;
  readonly #options: WorkloadOptions;
  readonly #recordPath: string;
  #state: WorkloadState = 'unstarted';
  #spec: WorkloadSpec | null = null;
  #run: Run | null = null;
  #crashes = 0;
  /** Starts and stops happen one after another. */
  #turn: Promise<unknown> = Promise.resolve();
  #cancelRestart = () => {};
  readonly #cancelRotation: () => void;

  constructor(options: WorkloadOptions) {
    this.#options = options;
    this.logPath = join(options.stateDir, 'workload.log');
    this.#recordPath = join(options.stateDir, 'workload.pid');
    this.#cancelRotation = options.clock.every(ROTATE_CHECK_MS, () => void this.#rotate());
  }

  get state(): WorkloadState {
    return this.#state;
  }

  /** Process id of the running command's shell, else null. */
  get pid(): number | null {
    return this.#state === 'running' ? (this.#run?.record.pid ?? null) : null;
  }

  /**
   * Starts the command unless it runs already, and waits until it has stayed up for `stableMs` or exited with 0.
   * @throws {DumontError} WORKLOAD with the end of its output when it fails before; with `restart` it is tried
   * again in the background all the same. IO when it cannot be started. ABORTED.
   */
  async start(spec: WorkloadSpec, options: { readonly stableMs: number; readonly signal: AbortSignal }): Promise<void> {
    const run = await this.#inTurn(async () => {
      options.signal.throwIfAborted();
      this.#spec = spec;
      if (this.#run !== null && this.#state === 'running') return this.#run;
      this.#cancelRestart();
      this.#crashes = 0;
      return this.#spawn(spec);
    });
    const { clock } = this.#options;
    const waitMs = run.startedMs + options.stableMs - clock.monotonicMs();
    if (waitMs <= 0) return;
    const failure = await this.#failureWithin(run, waitMs, options.signal);
    if (failure === null) return;
    const tail = await tailOfLog(this.logPath);
    throw new DumontError('WORKLOAD', `the workload ended with ${failure}: ${tail.slice(-1_500)}`, {
      hint: `Its output is in ${this.logPath}.`,
      retryable: true,
    });
  }

  /**
   * Ends the command with everything it started: SIGTERM, then SIGKILL after `graceMs`. Idempotent.
   * @param scope `all` ends what an earlier agent left behind as well; `own` only what this agent started
   * @throws {DumontError} IO when processes survive SIGKILL
   */
  async stop(graceMs: number, scope: 'all' | 'own' = 'all'): Promise<void> {
    this.#cancelRestart();
    this.#spec = null;
    await this.#inTurn(async () => {
      this.#cancelRestart();
      this.#step('stopped');
      if (scope === 'all' || this.#run !== null) await this.#endCurrent(graceMs);
    });
  }

  /** Stops supervising without ending the command: it goes on until an agent ends it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#cancelRestart();
    this.#cancelRotation();
    this.#spec = null;
    await this.#turn;
  }

  async #spawn(spec: WorkloadSpec): Promise<Run> {
    await this.#endCurrent(LEFTOVER_GRACE_MS);
    const { clock, environment, workspaceDir } = this.#options;
    const runId = randomUUID();
    await using log = await openLog(this.logPath);
    try {
      // Recorded before it exists: should the agent die in between, the mark in its environment still finds it.
      await writeRunRecord(this.#recordPath, { pid: 0, startTicks: 0, runId });
      const child = spawn('/bin/sh', ['-c', spec.command], {
        cwd: workspaceDir,
        env: { ...environment, DUMONT_WORKSPACE_DIR: workspaceDir, [RUN_VARIABLE]: runId },
        detached: true,
        stdio: ['ignore', log.fd, log.fd],
      });
      const exited = exitOf(child);
      const pid = await pidOf(child);
      const startTicks = (await readProcess(pid))?.startTicks ?? 0;
      const run: Run = { record: { pid, startTicks, runId }, startedMs: clock.monotonicMs(), exited };
      this.#run = run;
      await writeRunRecord(this.#recordPath, run.record);
      this.#step('spawned');
      void exited.then((failure) => this.#onExit(run, failure));
      return run;
    } catch (error) {
      this.#step('gaveUp');
      throw toDumontError(error, 'IO', `starting the workload in ${workspaceDir}`);
    }
  }

  #onExit(run: Run, failure: string | null): void {
    if (this.#run !== run || this.#state !== 'running') return;
    const { clock, random, log } = this.#options;
    const spec = this.#spec;
    if (failure === null) {
      this.#step('finished');
      return;
    }
    if (spec === null || !spec.restart) {
      this.#step('gaveUp');
      log.warn({ event: 'workload-failed', failure }, 'the workload failed');
      return;
    }
    if (clock.monotonicMs() - run.startedMs >= HEALTHY_MS) this.#crashes = 0;
    const retryInMs = Math.round(backoffMs(this.#crashes, this.#options.restart ?? RESTART, random));
    this.#crashes += 1;
    this.#step('crashed');
    log.warn({ event: 'workload-crashed', failure, retryInMs }, 'the workload failed and is started again');
    this.#cancelRestart = clock.after(retryInMs, () => void this.#restart(spec));
  }

  async #restart(spec: WorkloadSpec): Promise<void> {
    try {
      await this.#inTurn(async () => {
        if (this.#state === 'restarting') await this.#spawn(spec);
      });
    } catch (error) {
      this.#options.log.error({ event: 'workload-restart-failed', err: error }, 'the workload cannot be started again');
    }
  }

  /** Ends the run of this agent or the one that an earlier agent recorded. */
  async #endCurrent(graceMs: number): Promise<void> {
    const record = this.#run?.record ?? (await readRunRecord(this.#recordPath));
    if (record === null) return;
    await endRun(record, graceMs, this.#options.clock);
    this.#run = null;
    await removeRunRecord(this.#recordPath, record.runId);
  }

  /** What the run ended with inside the time, null when it stayed up or exited with 0. */
  async #failureWithin(run: Run, waitMs: number, signal: AbortSignal): Promise<string | null> {
    const waiting = new AbortController();
    const either = AbortSignal.any([signal, waiting.signal]);
    try {
      return await Promise.race([
        run.exited,
        this.#options.clock.sleep(waitMs, either).then(
          () => null,
          (error: unknown) => {
            throw new DumontError('ABORTED', 'stopped waiting for the workload to settle', { cause: error });
          },
        ),
      ]);
    } finally {
      waiting.abort();
    }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => {});
    return result;
  }

  async #rotate(): Promise<void> {
    if (this.#run === null) return;
    try {
      await rotateLog(this.logPath, this.#options.logLimitBytes);
    } catch (error) {
      if (systemErrorCode(error) === 'ENOENT') return;
      this.#options.log.warn({ event: 'workload-log-rotation-failed', err: error }, 'cannot rotate the workload log');
    }
  }

  #step(event: WorkloadEvent): void {
    const state = nextState(WORKLOAD_TABLE, this.#state, event);
    if (state === this.#state) return;
    this.#state = state;
    this.#options.onState(state);
  }
}

function pidOf(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('spawn', () => {
      if (child.pid !== undefined) resolve(child.pid);
    });
  });
}

/** Null for exit code 0, else the failure in words. Never rejects. */
function exitOf(child: ChildProcess): Promise<string | null> {
  return new Promise((resolve) => {
    child.once('exit', (code, signal) => {
      if (signal !== null) resolve(`signal ${signal}`);
      else resolve(code === 0 ? null : `exit code ${code}`);
    });
  });
}
