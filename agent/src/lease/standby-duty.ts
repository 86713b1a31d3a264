import { mkdir } from 'node:fs/promises';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { ActionResult } from '@dumont/shared/protocol/command.ts';
import type { Assignment } from '@dumont/shared/protocol/hello.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import { SyncReceiver } from '../sync/sync-receiver.ts';
import type { Duty } from './duty.ts';

/** A port that is still taken or a full disk may be well again soon. */
const RETRY_MS = 2_000;

export interface StandbyDutyOptions {
  readonly workspaceDir: string;
  readonly stateDir: string;
  readonly clock: Clock;
  readonly log: Logger;
}

/** A standby keeps its folder equal to the primary's when its assignment says so; it runs and publishes nothing. */
export class StandbyDuty implements Duty {
  readonly workloadState = 'unstarted';
  readonly #options: StandbyDutyOptions;
  readonly #stopping = new AbortController();
  #assignment: Assignment | null = null;
  /** Assignments take effect one after another. */
  #settling: Promise<void> = Promise.resolve();
  #receiver: SyncReceiver | null = null;
  #receiverKey = '';
  #cancelRetry = () => {};

  constructor(options: StandbyDutyOptions) {
    this.#options = options;
  }

  assign(assignment: Assignment): void {
    this.#assignment = assignment;
    this.#receiver?.hearEpoch(assignment.epoch);
    this.#settling = this.#settling.then(async () => {
      if (assignment !== this.#assignment) return;
      const { log, clock } = this.#options;
      try {
        await this.#receiveAs(assignment);
      } catch (error) {
        const err = toDumontError(error);
        log.error({ event: 'sync-listen-failed', err, retryInMs: RETRY_MS }, 'the standby could not listen for sync');
        this.#cancelRetry();
        this.#cancelRetry = clock.after(RETRY_MS, () => {
          if (assignment === this.#assignment) this.assign(assignment);
        });
      }
    });
  }

  online(): void {}

  epochHeard(epoch: number): void {
    this.#receiver?.hearEpoch(epoch);
  }

  perform(action: { readonly name: string }): Promise<ActionResult> {
    return Promise.reject(new DumontError('UNSUPPORTED', `a standby does not perform ${action.name}`));
  }

  unsavedMs(): number {
    return 0;
  }

  standbyBehind(): null {
    return null;
  }

  async lastWords(): Promise<void> {}

  async stopWorkload(): Promise<void> {}

  async settle(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {
    this.#assignment = null;
    this.#stopping.abort(new DumontError('ABORTED', 'the agent stops'));
    await this.#settling;
    this.#cancelRetry();
    await this.#receiver?.[Symbol.asyncDispose]();
    this.#receiver = null;
  }

  async #receiveAs({ sync, workspaceId }: Assignment): Promise<void> {
    const receiverKey = sync?.role === 'receive' ? JSON.stringify({ sync, workspaceId }) : '';
    if (receiverKey === this.#receiverKey) return;
    this.#receiverKey = '';
    await this.#receiver?.[Symbol.asyncDispose]();
    this.#receiver = null;
    if (sync?.role !== 'receive') return;
    const { workspaceDir: root, stateDir, clock, log } = this.#options;
    const { host, port, token, epoch } = sync;
    await mkdir(root, { recursive: true });
    const key = { workspaceId, epoch, token };
    const options = { root, stateDir, key, host, port, clock, log };
    this.#receiver = await SyncReceiver.listen(options, this.#stopping.signal);
    this.#receiverKey = receiverKey;
  }
}
