import { mkdir } from 'node:fs/promises';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { ActionResult } from '@dumont/shared/protocol/command.ts';
import type { Assignment } from '@dumont/shared/protocol/hello.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import type { ControlLink } from '../link/control-link.ts';
import { SyncReceiver } from '../sync/sync-receiver.ts';
import type { Duty, DutyAction } from './duty.ts';
import { EngineHolder } from './engine-holder.ts';
import type { OpenEngine, WorkOptions } from './engine.ts';
import { Publisher } from './publisher.ts';

/** A port that is still taken or a full disk may be well again soon. */
const RETRY_MS = 2_000;

export interface StandbyDutyOptions {
  readonly workspaceDir: string;
  readonly stateDir: string;
  /** Where it listens; null: where the assignment says. */
  readonly listenHost: string | null;
  readonly openEngine: OpenEngine;
  readonly link: Pick<ControlLink, 'commitSnapshot'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

/** Nobody watches a standby's folder: each snapshot looks at all of it. */
const NO_PATHS: ReadonlySet<string> = new Set();
const UNWATCHED = {
  isDirty: false,
  sinceMonotonicMs: null,
  paths: NO_PATHS,
  take: () => null,
  restore: () => {},
} as const;

/**
 * A standby keeps its folder equal to the primary's while its assignment says so, and runs nothing. Asked for a snapshot
 * while it receives nothing, because nobody is primary, it commits what the folder holds; the control plane decides
 * whether that counts.
 */
export class StandbyDuty implements Duty {
  readonly workloadState = 'unstarted';
  readonly #options: StandbyDutyOptions;
  readonly #stopping = new AbortController();
  #assignment: Assignment | null = null;
  /** Assignments take effect one after another. */
  #settling: Promise<void> = Promise.resolve();
  #receiver: SyncReceiver | null = null;
  #receiverKey = '';
  readonly #engines: EngineHolder;
  #publisher: Publisher | null = null;
  #cancelRetry = () => {};

  constructor(options: StandbyDutyOptions) {
    this.#options = options;
    this.#engines = new EngineHolder(options.openEngine);
  }

  assign(assignment: Assignment): void {
    this.#assignment = assignment;
    this.#receiver?.hearEpoch(assignment.epoch);
    this.#engines.renew(assignment);
    if (assignment.sync !== undefined || assignment.standing !== 'standby') this.#stopSaving();
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

  async perform(action: DutyAction, { onProgress }: WorkOptions): Promise<ActionResult> {
    if (action.name !== 'snapshot') throw new DumontError('UNSUPPORTED', `a standby does not perform ${action.name}`);
    await this.#settling;
    const assignment = this.#assignment;
    if (assignment?.standing !== 'standby' || this.#receiver !== null) {
      throw new DumontError('CONFLICT', 'a standby saves its folder only while nobody is primary');
    }
    if (this.#publisher !== null) throw new DumontError('CONFLICT', 'another snapshot is being taken');
    const engine = await this.#engines.engineFor(assignment, async () => this.#stopSaving());
    const { link, clock, random, log } = this.#options;
    const publisher = new Publisher({
      engine,
      dirty: UNWATCHED,
      commit: (request, signal) => link.commitSnapshot(request, signal),
      isOnline: () => true,
      unsavedSinceMs: null,
      onSaved: () => {},
      epoch: assignment.epoch,
      head: assignment.head,
      intervalMs: 0,
      clock,
      random,
      log,
    });
    this.#publisher = publisher;
    try {
      return { name: 'snapshot', record: await publisher.publishNow(onProgress) };
    } finally {
      this.#publisher = null;
    }
  }

  unsavedMs(): number {
    return 0;
  }

  unsavedBytes(): number {
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
    await this.#publisher?.stop(new DumontError('ABORTED', 'the agent stops'));
    await this.#engines[Symbol.asyncDispose]();
  }

  /** What it was asked to save is over: the folder belongs to a primary again, or is nobody's. */
  #stopSaving(): void {
    void this.#publisher?.stop(new DumontError('STALE_EPOCH', 'the workspace has moved on'));
  }

  async #receiveAs({ sync, workspaceId }: Assignment): Promise<void> {
    const receiverKey = sync?.role === 'receive' ? JSON.stringify({ sync, workspaceId }) : '';
    if (receiverKey === this.#receiverKey) return;
    this.#receiverKey = '';
    await this.#receiver?.[Symbol.asyncDispose]();
    this.#receiver = null;
    if (sync?.role !== 'receive') return;
    const { workspaceDir: root, stateDir, listenHost, clock, log } = this.#options;
    const { port, token, epoch } = sync;
    const host = listenHost ?? sync.host;
    await mkdir(root, { recursive: true });
    const key = { workspaceId, epoch, token };
    const options = { root, stateDir, key, host, port, clock, log };
    this.#receiver = await SyncReceiver.listen(options, this.#stopping.signal);
    this.#receiverKey = receiverKey;
  }
}
