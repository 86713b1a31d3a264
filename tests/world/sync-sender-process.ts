import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { SyncKey } from '@dumont/agent/sync/secure-socket.ts';
import type { SyncState } from '@dumont/agent/sync/sync-state.ts';

const CHILD = join(import.meta.dirname, 'sync-sender-child.ts');

export interface SenderChildOptions {
  readonly root: string;
  readonly url: string;
  readonly key: SyncKey;
  readonly beatMs: number;
}

/** What a heartbeat says of sync, and what it would say of the sender. */
export interface SenderBeat extends Pick<SyncState, 'watermark' | 'isInitial' | 'sentBytes'> {
  /** Wall time, ms: all that was written before has been heard of. */
  readonly asOfWallMs: number;
  readonly behindMs: number;
  readonly behindBytes: number;
  /** Most memory it ever held. */
  readonly rssBytes: number;
}

/** A primary's end of sync in a process that can be killed. */
export class SyncSenderProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  #last: SenderBeat | null = null;
  /** Of all beats. Must not throw. */
  onBeat: (beat: SenderBeat) => void = () => {};

  constructor(options: SenderChildOptions) {
    this.#child = spawn(process.execPath, [CHILD, JSON.stringify(options)], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.#child.on('message', (beat: SenderBeat) => {
      this.#last = beat;
      this.onBeat(beat);
    });
  }

  /** The last beat that came, null before the first. */
  get beat(): SenderBeat | null {
    return this.#last;
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exit = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exit;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }
}
