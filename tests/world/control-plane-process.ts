import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { eventually } from './eventually.ts';
import type { Site } from './site.ts';

const MORTAL = join(import.meta.dirname, 'mortal-process.ts');
const START_TIMEOUT_MS = 45_000;

/** When a control plane kills itself with SIGKILL: once it is armed and has logged a line with all of these fields. */
export interface Death {
  readonly when: Readonly<Record<string, string>>;
  /** Milliseconds after that line; 0: before anything else happens. */
  readonly afterMs: number;
}

type Environment = Readonly<Record<string, string>>;

/** A real control plane in a process of its own. Machines outlive it; the site owns them. */
export class ControlPlaneProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  /** It exists once the death is armed. */
  readonly #armedPath: string;
  readonly #exit: Promise<NodeJS.Signals | number | null>;
  #log = '';

  private constructor(site: Site, death: Death | undefined, extra: Environment) {
    this.#armedPath = join(site.folder, `armed-${randomUUID()}`);
    const fate = { TEST_DEATH: JSON.stringify(death), TEST_DEATH_ARMED: this.#armedPath };
    const env = site.environment({ ...extra, ...(death === undefined ? {} : fate) });
    this.#child = spawn(process.execPath, [MORTAL], { env, stdio: ['ignore', 'ignore', 'pipe'] });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#log += text;
    });
    this.#exit = once(this.#child, 'close').then(
      ([code, signal]) => (signal as NodeJS.Signals | null) ?? (code as number | null),
    );
  }

  /** Resolves when the API answers. */
  static async start(site: Site, death?: Death, extra: Environment = {}): Promise<ControlPlaneProcess> {
    const controlPlane = new ControlPlaneProcess(site, death, extra);
    try {
      await eventually(
        'the control plane is up',
        () => {
          if (controlPlane.#child.exitCode !== null) throw new Error(`it ended: ${controlPlane.#log}`);
          return site.client.call('health').catch(() => null);
        },
        START_TIMEOUT_MS,
      );
      return controlPlane;
    } catch (error) {
      await controlPlane.kill();
      throw error;
    }
  }

  /** Everything it logged so far, JSON lines. */
  get log(): string {
    return this.#log;
  }

  /** From now on it may die of its death: what it suspected before, on a machine that stumbles, does not count. */
  arm(): void {
    writeFileSync(this.#armedPath, '');
  }

  /** Resolves when it died of the death it was given. */
  async died(withinMs = 30_000): Promise<void> {
    await eventually('the control plane dies', () => this.#child.signalCode !== null, withinMs);
    await this.#exit;
  }

  /** Stops it in its tracks for so long, as a swapping or suspended machine does. */
  async pause(ms: number): Promise<void> {
    this.#child.kill('SIGSTOP');
    await systemClock.sleep(ms);
    this.#child.kill('SIGCONT');
  }

  /** SIGKILL, as a crash. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exit;
  }

  /** SIGTERM, in good order. @returns the exit code */
  async stop(): Promise<NodeJS.Signals | number | null> {
    this.#child.kill('SIGTERM');
    return this.#exit;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}
