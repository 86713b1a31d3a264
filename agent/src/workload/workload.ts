import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Workload as WorkloadSpec } from '@dumont/shared/model/policy.ts';
import { nextState } from '@dumont/shared/model/transition.ts';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { WorkloadState } from '@dumont/shared/protocol/heartbeat.ts';
import { type BackoffPolicy, backoffMs } from '@dumont/shared/util/backoff.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError, systemErrorCode, toDumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import { endRun } from './end-run.ts';
import { adoptRun, type Run, type RunFiles, startRun } from './run.ts';
import { readRunRecord, removeRunRecord } from './run-record.ts';
import { rotateLog, tailOfLog } from './workload-log.ts';
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
  /** Called before every start, when nothing of the command runs: what its environment has besides. Must not reject. */
  readonly beforeStart?: () => Promise<Readonly<Record<string, string>>>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** Called after every change of the state. Must not throw. */
  readonly onState: (state: WorkloadState) => void;
  readonly restart?: BackoffPolicy;
  readonly logLimitBytes?: number;
}

/**
 * Supervises the user's command: one process group at a time, started again with backoff when it fails, its output in
 * `<stateDir>/workload.log`. The command outlives the agent: the next one takes it up by {@link adopt}, and it ends only
 * by {@link stop}. Processes that an earlier agent left behind are ended before a new run starts, so two copies never
 * run at once.
 */
export class Workload implements AsyncDisposable {
  readonly logPath: string;
  readonly #options: WorkloadOptions;
  readonly #files: RunFiles;
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
    this.#files = {
      recordPath: join(options.stateDir, 'workload.pid'),
      exitPath: join(options.stateDir, 'workload.exit'),
    };
    this.#cancelRotation = options.clock.every(ROTATE_CHECK_MS, () => void this.#rotate());
  }

  get state(): WorkloadState {
    return this.#state;
  }

  /** Process id of the shell that leads the running command's group, else null. */
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
   * Goes on with the command that an earlier agent process left behind, without touching it: it is supervised as if
   * started here. One that ended meanwhile is judged by its exit code: 0 is its end, anything else a crash.
   * @returns false when there is none, or nothing tells how it ended: then {@link start} is next
   * @throws {DumontError} IO
   */
  adopt(spec: WorkloadSpec): Promise<boolean> {
    return this.#inTurn(async () => {
      if (this.#run !== null) return true;
      const run = await adoptRun(this.#files, this.#options.clock);
      if (run === null) return false;
      this.#spec = spec;
      this.#begin(run);
      return true;
    });
  }

  /**
   * Ends the command with everything it started, also what an earlier agent left behind: SIGTERM, then SIGKILL after
   * `graceMs`. Idempotent.
   * @throws {DumontError} IO when processes survive SIGKILL
   */
  async stop(graceMs: number): Promise<void> {
    this.#cancelRestart();
    this.#spec = null;
    await this.#inTurn(async () => {
      this.#cancelRestart();
      this.#step('stopped');
      await this.#endCurrent(graceMs);
    });
  }

  /** Stops supervising without ending the command: it goes on until an agent ends it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#cancelRestart();
    this.#cancelRotation();
    this.#spec = null;
    await this.#turn;
    this.#run?.letGo();
  }

  async #spawn(spec: WorkloadSpec): Promise<Run> {
    await this.#endCurrent(LEFTOVER_GRACE_MS);
    const { clock, workspaceDir, beforeStart } = this.#options;
    const environment = { ...this.#options.environment, ...(await beforeStart?.()) };
    const { command } = spec;
    const { logPath } = this;
    try {
      const run = await startRun({ files: this.#files, command, workspaceDir, environment, logPath, clock });
      this.#begin(run);
      return run;
    } catch (error) {
      this.#step('gaveUp');
      throw toDumontError(error, 'IO', `starting the workload in ${workspaceDir}`);
    }
  }

  #begin(run: Run): void {
    this.#run = run;
    this.#step('spawned');
    void run.exited.then((failure) => this.#onExit(run, failure));
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
    const record = this.#run?.record ?? (await readRunRecord(this.#files.recordPath));
    if (record === null) return;
    await endRun(record, graceMs, this.#options.clock);
    this.#run?.letGo();
    this.#run = null;
    await removeRunRecord(this.#files.recordPath, record.runId);
    await rm(this.#files.exitPath, { force: true });
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
