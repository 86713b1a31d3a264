import { mkdir } from 'node:fs/promises';
import type { ActionResult } from '@dumont/shared/protocol/command.ts';
import type { WorkloadState } from '@dumont/shared/protocol/heartbeat.ts';
import type { Assignment } from '@dumont/shared/protocol/hello.ts';
import type { LastWords } from '@dumont/shared/protocol/notice.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import type { SyncState } from '../sync/sync-state.ts';
import { ChunkDoor } from '../peer/chunk-door.ts';
import { SyncReceiver } from '../sync/sync-receiver.ts';
import type { Duty, DutyAction } from './duty.ts';
import type { WorkOptions } from './engine.ts';
import { GpuDuty, type GpuDutyOptions } from './gpu-duty.ts';
import { PeerEar, type PeerWord } from './peer-ear.ts';

/** A port that is still taken or a full disk may be well again soon. */
const RETRY_MS = 2_000;

export interface StandbyDutyOptions extends GpuDutyOptions {
  /** Where it listens; null: where the assignment says. */
  readonly listenHost: string | null;
}

/**
 * A standby keeps its folder equal to the primary's while its assignment says so, and runs nothing. Made primary itself,
 * it receives nothing more and goes on from what the folder holds as any primary does: it publishes, and runs the command
 * that the assignment names, without being asked, because users are there already. It never becomes a standby again.
 * While the workspace is moved, a machine that restores it reads chunks here.
 */
export class StandbyDuty implements Duty {
  readonly #options: StandbyDutyOptions;
  readonly #stopping = new AbortController();
  /** What it does once it was made primary. */
  readonly #serving: GpuDuty;
  #assignment: Assignment | null = null;
  /** Assignments take effect one after another. */
  #settling: Promise<void> = Promise.resolve();
  #receiver: SyncReceiver | null = null;
  #receiverKey = '';
  #receiverEpoch = 0;
  readonly #ear = new PeerEar();
  readonly #door: ChunkDoor;
  #cancelRetry = () => {};

  constructor(options: StandbyDutyOptions) {
    this.#options = options;
    this.#serving = new GpuDuty(options);
    this.#door = new ChunkDoor(options);
  }

  get workloadState(): WorkloadState {
    return this.#serving.workloadState;
  }

  assign(assignment: Assignment): void {
    this.#assignment = assignment;
    this.#receiver?.hearEpoch(assignment.epoch);
    // Publishing under an epoch that is over must not wait for its turn.
    if (assignment.standing === 'fenced') this.#serving.assign(assignment);
    this.#settling = this.#settling.then(async () => {
      if (assignment !== this.#assignment) return;
      const { log, clock } = this.#options;
      try {
        await this.#receiveAs(assignment);
        if (assignment.standing === 'primary') await this.#serve(assignment);
        await this.#serveChunks(assignment);
      } catch (error) {
        const err = toDumontError(error);
        log.error({ event: 'assignment-failed', err, retryInMs: RETRY_MS }, 'the assignment could not take effect');
        this.#cancelRetry();
        this.#cancelRetry = clock.after(RETRY_MS, () => {
          if (assignment === this.#assignment) this.assign(assignment);
        });
      }
    });
  }

  online(): void {
    this.#serving.online();
  }

  epochHeard(epoch: number): void {
    this.#receiver?.hearEpoch(epoch);
    this.#serving.epochHeard(epoch);
  }

  async perform(action: DutyAction, options: WorkOptions): Promise<ActionResult> {
    await this.#settling;
    if (this.#assignment?.standing === 'standby') {
      throw new DumontError('CONFLICT', `a standby does not perform ${action.name}`);
    }
    return this.#serving.perform(action, options);
  }

  unsavedMs(): number {
    return this.#serving.unsavedMs();
  }

  unsavedBytes(): number | null {
    return this.#serving.unsavedBytes();
  }

  standbyBehind(): SyncState | null {
    return this.#serving.standbyBehind();
  }

  peerWord(): PeerWord | null {
    const heardAtMs = this.#receiver?.heardAtMs ?? null;
    return this.#ear.listen({ epoch: this.#receiverEpoch, heardAtMs }, this.#options.clock.monotonicMs());
  }

  lastWords(withinMs: number): Promise<LastWords | null> {
    return this.#serving.lastWords(withinMs);
  }

  async stopWorkload(): Promise<void> {
    await this.#serving.stopWorkload();
  }

  async settle(withinMs: number): Promise<void> {
    await this.#serving.settle(withinMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#assignment = null;
    this.#stopping.abort(new DumontError('ABORTED', 'the agent stops'));
    await this.#settling;
    this.#cancelRetry();
    await this.#endReceiving();
    await this.#door[Symbol.asyncDispose]();
    await this.#serving[Symbol.asyncDispose]();
  }

  async #serve(assignment: Assignment): Promise<void> {
    const { stateFile } = this.#options;
    if (stateFile.state.standing !== 'primary') {
      await stateFile.update({ workloadWanted: assignment.workload !== null });
    }
    this.#serving.assign(assignment);
  }

  async #receiveAs({ sync, workspaceId }: Assignment): Promise<void> {
    const receiverKey = sync?.role === 'receive' ? JSON.stringify({ sync, workspaceId }) : '';
    if (receiverKey === this.#receiverKey) return;
    await this.#endReceiving();
    if (sync?.role !== 'receive') return;
    const { workspaceDir: root, stateDir, listenHost, clock, log } = this.#options;
    const { port, token, epoch } = sync;
    const host = listenHost ?? sync.host;
    await mkdir(root, { recursive: true });
    const key = { workspaceId, epoch, token };
    // It lets readers in itself, on the same port.
    await this.#door.stopListening();
    const options = { root, stateDir, key, host, port, door: this.#door, clock, log };
    this.#receiver = await SyncReceiver.listen(options, this.#stopping.signal);
    this.#receiverEpoch = epoch;
    this.#receiverKey = receiverKey;
  }

  /** Whoever restores the workspace elsewhere may read here what it finds by its id, also while users work here. */
  async #serveChunks({ chunks, workspaceId }: Assignment): Promise<void> {
    if (chunks?.role !== 'serve') {
      this.#door.admit(null);
      await this.#door.stopListening();
      return;
    }
    this.#door.admit({ workspaceId, token: chunks.token });
    if (this.#receiver === null) await this.#door.listen(this.#options.listenHost ?? chunks.host, chunks.port);
  }

  /** Batches are carried out whole, so from here on the folder is what the watermark says. */
  async #endReceiving(): Promise<void> {
    this.#receiverKey = '';
    const receiver = this.#receiver;
    this.#receiver = null;
    if (receiver === null) return;
    const { watermark } = receiver;
    await receiver[Symbol.asyncDispose]();
    this.#options.log.info({ event: 'sync-ended', ...watermark }, 'nothing more is received');
  }
}
