import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

const CHILD = join(import.meta.dirname, 'delay-relay-child.ts');

/** A port of loopback that holds every byte for a time, each way, on its way to another. */
export class DelayRelay implements AsyncDisposable {
  readonly port: number;
  readonly #child: ChildProcess;

  static async start(targetPort: number, delayMs: number): Promise<DelayRelay> {
    const options = JSON.stringify([targetPort, delayMs]);
    const child = spawn(process.execPath, [CHILD, options], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    const [{ port }] = (await once(child, 'message')) as [{ port: number }];
    return new DelayRelay(child, port);
  }

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const exit = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exit;
  }
}
