import { existsSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CheckpointReport } from '@dumont/shared/model/checkpoints.ts';
import { hookTimeoutMs, type Workload as WorkloadSpec } from '@dumont/shared/model/policy.ts';
import type { ActionResult } from '@dumont/shared/protocol/command.ts';
import type { WorkloadState } from '@dumont/shared/protocol/heartbeat.ts';
import type { Assignment } from '@dumont/shared/protocol/hello.ts';
import type { Notice } from '@dumont/shared/protocol/notice.ts';
import { runCheck } from './check/run-check.ts';
import { settleCheckpoints } from './checkpoints/settle-checkpoints.ts';
import { type HookName, runHook } from './hook.ts';
import { SoftErrors } from './soft-errors.ts';
import { Workload, type WorkloadOptions } from './workload.ts';

const NEVER = new AbortController().signal;
const LOOPBACK = '127.0.0.1';

export interface WorkloadKeeperOptions extends Omit<WorkloadOptions, 'beforeStart'> {
  /** Says something to the control plane. Must not throw. */
  readonly tell: (notice: Notice) => void;
}

interface StartOptions {
  readonly stableMs: number;
  /** Make the workload's own check once it stays up. */
  readonly check: boolean;
  readonly signal: AbortSignal;
}

type Started = Extract<ActionResult, { readonly name: 'start-workload' }>;

/** The user's command with all that the policy wants done around it: hooks, checkpoints, and the check that it serves. */
export class WorkloadKeeper implements AsyncDisposable {
  readonly #options: WorkloadKeeperOptions;
  readonly #workload: Workload;
  readonly #softErrors: SoftErrors;
  /** There while the workload may be at rest for a snapshot. */
  readonly #atRestPath: string;
  #assignment: Pick<Assignment, 'workspaceId' | 'workload'> | null = null;
  /** As they were settled with nothing running since; null when they must be looked at again. */
  #checkpoints: CheckpointReport | null = null;
  /** It ran on this machine: what it left unfinished is not somebody else's. */
  #hasRun = false;

  constructor(options: WorkloadKeeperOptions) {
    this.#options = options;
    this.#softErrors = new SoftErrors(options.tell, options.log);
    this.#atRestPath = join(options.stateDir, 'workload.at-rest');
    this.#workload = new Workload({ ...options, beforeStart: () => this.#beforeStart() });
  }

  get state(): WorkloadState {
    return this.#workload.state;
  }

  /** The assignment whose workload this is about from here on. */
  follow(assignment: Pick<Assignment, 'workspaceId' | 'workload'>): void {
    this.#assignment = assignment;
  }

  /**
   * Starts the command, waits until it stays up and makes its check where one is asked for. A check that fails is part of
   * the result: the command runs all the same.
   * @throws {DumontError} as {@link Workload.start}
   */
  async start(spec: WorkloadSpec, { stableMs, check, signal }: StartOptions): Promise<Started> {
    await this.#workload.start(spec, { stableMs, signal });
    const report = check && spec.check !== undefined ? await this.#check(spec.check, signal) : undefined;
    const { state, pid } = this.#workload;
    return { name: 'start-workload', state, pid, ...(report !== undefined && { check: report }) };
  }

  /** Goes on with the command of an earlier agent process as it is, or starts it again when nothing is left of it. */
  async takeUp(spec: WorkloadSpec): Promise<void> {
    const { log } = this.#options;
    this.#hasRun = true;
    try {
      const isAdopted = await this.#workload.adopt(spec);
      if (!isAdopted) await this.#workload.start(spec, { stableMs: 0, signal: NEVER });
      // The earlier agent may have ended in the middle of a snapshot.
      if (isAdopted && existsSync(this.#atRestPath)) await this.#wake();
      const { pid, state } = this.#workload;
      if (isAdopted) log.info({ event: 'workload-adopted', pid, state }, 'the workload of an earlier agent goes on');
      else log.info({ event: 'workload-resumed', pid }, 'the workload was started again');
    } catch (error) {
      log.error({ event: 'workload-resume-failed', err: error }, 'the workload could not be started again');
    }
  }

  /** Ends it at once. @throws {DumontError} IO when processes survive SIGKILL */
  async stop(graceMs: number): Promise<void> {
    await this.#workload.stop(graceMs);
  }

  /**
   * Ends it in good order: the pre-stop hook first.
   * @throws {DumontError} IO when processes survive SIGKILL
   */
  async leave(graceMs: number, signal: AbortSignal): Promise<void> {
    await this.prepareToStop(signal, Infinity);
    await this.#workload.stop(graceMs);
  }

  /** Runs the pre-stop hook if the command runs. Never rejects. */
  async prepareToStop(signal: AbortSignal, withinMs: number): Promise<void> {
    if (this.#isUp()) await this.#softErrors.attempt('pre-stop', () => this.#hook('preStop', signal, withinMs));
  }

  /**
   * What is done once the folder was restored, before the command may start: half-written checkpoints are set aside, then
   * the hook runs.
   * @throws {DumontError} as {@link runHook}
   */
  async afterRestore(spec: WorkloadSpec | null, signal: AbortSignal): Promise<CheckpointReport | null> {
    if (spec === null) return null;
    const found = await this.#settle(spec, true, signal);
    this.#checkpoints = found;
    if (spec.postRestore === undefined) return found;
    await runHook({ ...this.#hookOptions('postRestore'), command: spec.postRestore, signal });
    // It may have fetched or made some.
    this.#checkpoints = null;
    return found;
  }

  /**
   * Captures a snapshot with the command at rest, as far as its hooks bring it there. It is woken whatever becomes of the
   * capture. Rejects as `capture` does.
   */
  async atRest<T>(capture: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const spec = this.#assignment?.workload;
    const isHooked = spec?.preSnapshot !== undefined || spec?.postSnapshot !== undefined;
    if (!isHooked || !this.#isUp()) return capture();
    await this.#softErrors.attempt('pre-snapshot', async () => {
      await writeFile(this.#atRestPath, '');
      await this.#hook('preSnapshot', signal);
    });
    try {
      return await capture();
    } finally {
      await this.#wake();
    }
  }

  /** Stops supervising; the command lives on. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#workload[Symbol.asyncDispose]();
  }

  async #wake(): Promise<void> {
    // Also when everything is being stopped: nobody else would wake it.
    await this.#softErrors.attempt('post-snapshot', async () => {
      try {
        await this.#hook('postSnapshot', NEVER);
      } finally {
        await rm(this.#atRestPath, { force: true });
      }
    });
  }

  #isUp(): boolean {
    return this.#workload.state === 'running';
  }

  /** Runs one of the hooks whose failure stops nothing, where the policy has it. @throws {DumontError} as {@link runHook} */
  async #hook(name: Exclude<HookName, 'postRestore'>, signal: AbortSignal, withinMs = Infinity): Promise<void> {
    const spec = this.#assignment?.workload ?? null;
    const command = spec?.[name];
    if (spec === null || command === undefined) return;
    const timeoutMs = Math.min(hookTimeoutMs(spec), withinMs);
    await runHook({ ...this.#hookOptions(name), command, timeoutMs, signal });
  }

  #hookOptions(name: HookName) {
    const { workspaceDir, clock } = this.#options;
    const { logPath } = this.#workload;
    return { name, workspaceDir, environment: this.#environment(this.#checkpoints), logPath, clock };
  }

  async #beforeStart(): Promise<Readonly<Record<string, string>>> {
    const spec = this.#assignment?.workload ?? null;
    const found = this.#checkpoints ?? (spec === null ? null : await this.#settle(spec, this.#hasRun, NEVER));
    this.#checkpoints = null;
    this.#hasRun = true;
    return this.#environment(found);
  }

  #environment(found: CheckpointReport | null): Readonly<Record<string, string>> {
    const { environment, workspaceDir } = this.#options;
    const { workspaceId } = this.#assignment ?? {};
    const latest = found?.latest ?? null;
    return {
      ...environment,
      ...(workspaceId !== undefined && { DUMONT_WORKSPACE: workspaceId }),
      ...(latest !== null && { DUMONT_LATEST_CHECKPOINT: join(workspaceDir, latest) }),
    };
  }

  /** Nothing of the command runs. Null when the folder could not be looked through. */
  async #settle(spec: WorkloadSpec, mayRename: boolean, signal: AbortSignal): Promise<CheckpointReport | null> {
    const { workspaceDir, log } = this.#options;
    const found = await this.#softErrors.attempt('checkpoints', () =>
      settleCheckpoints(workspaceDir, { policy: spec.checkpoints, mayRename, signal }),
    );
    if (found !== null && found.completeCount + found.incompleteCount > 0) {
      log.info({ event: 'checkpoints', ...found }, 'the checkpoints were looked at');
    }
    return found;
  }

  async #check(check: NonNullable<WorkloadSpec['check']>, signal: AbortSignal) {
    const { clock, environment, log } = this.#options;
    // One that exited well may have started a service that goes on.
    const hopeless = () => (this.#workload.state === 'failed' ? 'the workload failed meanwhile' : null);
    // Machines that share a computer have an address each, on which their workloads listen.
    const { DUMONT_MACHINE_HOST: host = LOOPBACK, VLLM_API_KEY: apiKey } = environment;
    const report = await runCheck(check, { host, clock, hopeless, apiKey, signal });
    log.info({ event: 'workload-checked', ...report }, 'the check of the workload was made');
    return report;
  }
}
