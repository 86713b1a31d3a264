import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { SyncReceiver, SyncReceiverOptions } from '@dumont/agent/sync/sync-receiver.ts';

const CHILD = join(import.meta.dirname, 'sync-receiver-child.ts');

/** A standby's end of sync in a process that can be killed. */
export class SyncReceiverProcess implements AsyncDisposable {
  readonly port: number;
  readonly #child: ChildProcess;

  static async start(options: Omit<SyncReceiverOptions, 'clock' | 'log'>): Promise<SyncReceiverProcess> {
    const child = spawn(process.execPath, [CHILD, JSON.stringify(options)], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const [{ port }] = (await once(child, 'message')) as [{ port: number }];
    return new SyncReceiverProcess(child, port);
  }

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
  }

  /** Most memory it ever held. */
  async peakRssBytes(): Promise<number> {
    this.#child.send('memory');
    const [{ rssBytes }] = (await once(this.#child, 'message')) as [{ rssBytes: number }];
    return rssBytes;
  }

  /** The epoch is over: nothing is received from here on. @returns how far the folder is */
  async promote(): Promise<SyncReceiver['watermark']> {
    this.#child.send('promote');
    const [{ watermark }] = (await once(this.#child, 'message')) as [{ watermark: SyncReceiver['watermark'] }];
    return watermark;
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
