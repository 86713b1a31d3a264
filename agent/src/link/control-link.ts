import { randomUUID } from 'node:crypto';
import type { Worker } from 'node:worker_threads';
import type { Command } from '@dumont/shared/protocol/command.ts';
import type { Assignment, Hello } from '@dumont/shared/protocol/hello.ts';
import type { Downstream, Upstream } from '@dumont/shared/protocol/messages.ts';
import type { SnapshotCommit, SnapshotVerdict } from '@dumont/shared/protocol/snapshot.ts';
import { assertNever } from '@dumont/shared/util/assert.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { startThread } from '../node/assets.ts';
import type { BeatBoard } from './beat-board.ts';
import type { LinkEnd } from './link-end.ts';
import type { LinkState } from './link-state.ts';
import type { FromLink, LinkThreadData, LinkTrouble, StopReason, ToLink } from './thread-messages.ts';

/** A link thread that does not end in good order within this is ended the hard way. */
const STOP_TIMEOUT_MS = 2_000;

type Verdict = SnapshotVerdict['verdict'];

/** What comes in over the link. Calls are synchronous, in order of arrival, and must not throw. */
export interface LinkListener {
  state(state: LinkState): void;
  /** From a welcome or an assign; the newest one holds. `skewMs` is control plane minus agent, welcome only. */
  assignment(assignment: Assignment, skewMs: number | null): void;
  command(command: Command): void;
  /** The credential proposed last is stored at the control plane. */
  credentialAccepted(): void;
  /** An epoch heard in an ack or a verdict; may be higher than the assignment's. */
  epoch(epoch: number): void;
  trouble(trouble: LinkTrouble): void;
}

export interface ControlLinkOptions {
  /** Full ws:// or wss:// URL of the agent socket. */
  readonly url: string;
  readonly hello: Hello;
  readonly board: BeatBoard;
  readonly clock: Clock;
  readonly listener: LinkListener;
}

interface PendingCommit {
  readonly message: SnapshotCommit;
  readonly settle: (verdict: Verdict) => void;
}

/**
 * The main thread's end of the control link. The socket and the heartbeat timer live in a worker thread, so that no
 * work here can delay a beat. Owns that thread.
 */
export class ControlLink implements AsyncDisposable {
  /** Resolves once the link has ended for good; never rejects. */
  readonly ended: Promise<LinkEnd>;
  readonly #options: ControlLinkOptions;
  readonly #worker: Worker;
  readonly #commits = new Map<string, PendingCommit>();
  readonly #exited: Promise<void>;
  #finish: (end: LinkEnd) => void = () => {};
  #state: LinkState = 'idle';

  constructor(options: ControlLinkOptions) {
    this.#options = options;
    this.ended = new Promise((resolve) => {
      this.#finish = resolve;
    });
    const data: LinkThreadData = { url: options.url, hello: options.hello, boardBuffer: options.board.buffer };
    this.#worker = startThread('link', { workerData: data, name: 'link' });
    this.#worker.on('message', (event: FromLink) => this.#onEvent(event));
    this.#worker.on('error', (error) => this.#finish({ reason: 'broken', message: `link thread: ${error.message}` }));
    this.#exited = new Promise((resolve) => {
      this.#worker.once('exit', () => {
        this.#finish({ reason: 'broken', message: 'the link thread ended by itself' });
        resolve();
      });
    });
  }

  get state(): LinkState {
    return this.#state;
  }

  /** Queued while the link is down: results are kept over a reconnect, samples and progress dropped oldest first. */
  send(message: Exclude<Upstream, SnapshotCommit>): void {
    this.#post({ type: 'send', message });
  }

  /** Says hello with this credential from the next connection on. */
  useCredential(credential: string): void {
    this.#post({ type: 'credential', credential });
  }

  /**
   * Asks to make a snapshot the head and waits for the verdict, however long the link is down: the question is asked
   * again, under the same request id, after every reconnect.
   * @throws {DumontError} ABORTED when the signal fires first
   */
  commitSnapshot(commit: Pick<SnapshotCommit, 'epoch' | 'snapshot'>, signal: AbortSignal): Promise<Verdict> {
    const message: SnapshotCommit = { kind: 'snapshot-commit', requestId: randomUUID(), ...commit };
    return new Promise((resolve, reject) => {
      const abort = () => {
        this.#commits.delete(message.requestId);
        reject(
          new DumontError('ABORTED', `gave up waiting for the verdict on snapshot ${commit.snapshot.snapshotId}`, {
            cause: signal.reason,
          }),
        );
      };
      if (signal.aborted) {
        abort();
        return;
      }
      signal.addEventListener('abort', abort, { once: true });
      const settle = (verdict: Verdict) => {
        signal.removeEventListener('abort', abort);
        resolve(verdict);
      };
      this.#commits.set(message.requestId, { message, settle });
      if (this.#state === 'online') this.#post({ type: 'send', message });
    });
  }

  /**
   * Closes the socket in good order, after everything sent before, and ends the thread. Idempotent; the first reason
   * holds.
   */
  async close(reason: StopReason): Promise<void> {
    this.#post({ type: 'stop', reason });
    const cancel = this.#options.clock.after(STOP_TIMEOUT_MS, () => void this.#worker.terminate());
    await this.#exited;
    cancel();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close('stopped');
  }

  #post(order: ToLink): void {
    // After the thread has ended, posting is a no-op.
    this.#worker.postMessage(order, []);
  }

  #onEvent(event: FromLink): void {
    switch (event.type) {
      case 'state':
        this.#state = event.state;
        if (event.state === 'online') this.#askAgain();
        this.#options.listener.state(event.state);
        break;
      case 'message':
        this.#onMessage(event.message);
        break;
      case 'trouble':
        this.#options.listener.trouble(event.trouble);
        break;
      case 'ended':
        this.#finish(event.end);
        break;
      default:
        assertNever(event);
    }
  }

  #onMessage(message: Downstream): void {
    const { listener, clock } = this.#options;
    switch (message.kind) {
      case 'welcome':
        listener.assignment(message.assignment, message.nowMs - clock.nowMs());
        break;
      case 'assign':
        listener.assignment(message.assignment, null);
        break;
      case 'command':
        listener.command(message);
        break;
      case 'credential-accepted':
        listener.credentialAccepted();
        break;
      case 'heartbeat-ack':
        listener.epoch(message.epoch);
        break;
      case 'snapshot-verdict': {
        if (message.verdict.kind === 'stale-epoch') listener.epoch(message.verdict.epoch);
        const pending = this.#commits.get(message.requestId);
        this.#commits.delete(message.requestId);
        pending?.settle(message.verdict);
        break;
      }
      case 'refused':
        // The link thread turns it into the words of the trouble or the end that follows.
        break;
      default:
        assertNever(message);
    }
  }

  #askAgain(): void {
    for (const { message } of this.#commits.values()) this.#post({ type: 'send', message });
  }
}
