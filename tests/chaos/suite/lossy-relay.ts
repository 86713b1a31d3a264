import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

const PROGRAM = join(import.meta.dirname, 'lossy-relay-process.ts');

export interface Weather {
  /** Each way. */
  readonly delayMs: number;
  /** Of what is sent, each way. */
  readonly lossShare: number;
}

/** A port of loopback that leads to another, over a wire whose weather can be changed. */
export class LossyRelay implements AsyncDisposable {
  readonly port: number;
  readonly #child: ChildProcess;

  static async start(targetPort: number): Promise<LossyRelay> {
    const child = spawn(process.execPath, [PROGRAM, String(targetPort)], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const [{ port }] = (await once(child, 'message')) as [{ port: number }];
    return new LossyRelay(child, port);
  }

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
  }

  change(weather: Weather): void {
    this.#child.send(weather);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const exit = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exit;
  }
}
