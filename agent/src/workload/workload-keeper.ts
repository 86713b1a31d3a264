import type { Workload as WorkloadSpec } from '@dumont/shared/model/policy.ts';
import type { ActionResult } from '@dumont/shared/protocol/command.ts';
import type { WorkloadState } from '@dumont/shared/protocol/heartbeat.ts';
import { runCheck } from './check/run-check.ts';
import { runHook } from './hook.ts';
import { Workload, type WorkloadOptions } from './workload.ts';

interface StartOptions {
  readonly stableMs: number;
  /** Make the workload's own check once it stays up. */
  readonly check: boolean;
  readonly signal: AbortSignal;
}

type Started = Extract<ActionResult, { readonly name: 'start-workload' }>;

/** The user's command with all that the policy wants done around it: hooks and the check that it serves. */
export class WorkloadKeeper implements AsyncDisposable {
  readonly #options: WorkloadOptions;
  readonly #workload: Workload;

  constructor(options: WorkloadOptions) {
    this.#options = options;
    this.#workload = new Workload(options);
  }

  get state(): WorkloadState {
    return this.#workload.state;
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
    try {
      if (await this.#workload.adopt(spec)) {
        const { pid, state } = this.#workload;
        log.info({ event: 'workload-adopted', pid, state }, 'the workload of an earlier agent was taken over');
        return;
      }
      await this.#workload.start(spec, { stableMs: 0, signal: AbortSignal.any([]) });
      log.info({ event: 'workload-resumed', pid: this.#workload.pid }, 'the workload was started again');
    } catch (error) {
      log.error({ event: 'workload-resume-failed', err: error }, 'the workload could not be started again');
    }
  }

  /** @throws {DumontError} IO when processes survive SIGKILL */
  async stop(graceMs: number): Promise<void> {
    await this.#workload.stop(graceMs);
  }

  /**
   * What is done once the folder was restored, before the command may start.
   * @throws {DumontError} as {@link runHook}
   */
  async afterRestore(spec: WorkloadSpec | null, signal: AbortSignal): Promise<void> {
    const command = spec?.postRestore;
    if (command === undefined) return;
    const { workspaceDir, environment, clock } = this.#options;
    const { logPath } = this.#workload;
    await runHook({ command, workspaceDir, environment, logPath, clock, signal });
  }

  /** Stops supervising; the command lives on. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#workload[Symbol.asyncDispose]();
  }

  async #check(check: NonNullable<WorkloadSpec['check']>, signal: AbortSignal) {
    const { clock, environment, log } = this.#options;
    // One that exited well may have started a service that goes on.
    const hopeless = () => (this.#workload.state === 'failed' ? 'the workload failed meanwhile' : null);
    const report = await runCheck(check, { clock, hopeless, apiKey: environment['VLLM_API_KEY'], signal });
    log.info({ event: 'workload-checked', ...report }, 'the check of the workload was made');
    return report;
  }
}
