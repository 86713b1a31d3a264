import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { systemErrorCode } from '@dumont/shared/util/errors.ts';
import { TRAINING_FOLDER } from './stage.ts';
import type { PathAccount } from './tree-account.ts';
import { accountOfPath } from './tree-account.ts';

const LOOK_EVERY_MS = 50;
/** A look reads at most this much new log: a hundred lines a second fit many times. */
const MAX_LOG_READ_BYTES = 1_048_576;

/** A checkpoint somebody saw complete on the machine's disk. */
export interface SeenCheckpoint {
  readonly path: string;
  readonly account: PathAccount;
  /** When its writer finished it, wall ms. */
  readonly completedAtMs: number;
}

/**
 * Looks over the shoulder of the machine: notes, from its disk and without Dumont's help, every checkpoint completed
 * and every log line written, with when. What a failover promises is held against these notes.
 */
export class Witness implements AsyncDisposable {
  readonly #root: string;
  readonly #clock: Clock;
  readonly #stop = new AbortController();
  readonly #checkpoints = new Map<string, SeenCheckpoint>();
  readonly #loop: Promise<void>;
  #log = Buffer.alloc(0);

  /** @param root the machine's workspace folder on this computer */
  constructor(root: string, clock: Clock) {
    this.#root = root;
    this.#clock = clock;
    this.#loop = this.#watch();
  }

  get checkpoints(): readonly SeenCheckpoint[] {
    return [...this.#checkpoints.values()];
  }

  /** The log as last seen. */
  get log(): Buffer {
    return this.#log;
  }

  /** Ends the watch; the notes stay. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  async #watch(): Promise<void> {
    const { signal } = this.#stop;
    for (;;) {
      // One more look after the end: a standby may have what was written since the one before.
      const isLast = signal.aborted;
      try {
        await this.#look();
      } catch (error) {
        // The disk went away with the machine: what was seen before counts.
        if (!['ENOENT', 'ENOTDIR', 'ESTALE'].includes(systemErrorCode(error) ?? '')) throw error;
      }
      if (isLast) return;
      await this.#clock.sleep(LOOK_EVERY_MS, signal).catch(() => {});
    }
  }

  async #look(): Promise<void> {
    await this.#readLog(join(this.#root, TRAINING_FOLDER, 'logs', 'train.log'));
    const folder = join(this.#root, TRAINING_FOLDER, 'checkpoints');
    for (const name of await readdir(folder)) {
      if (!name.endsWith('.ckpt') || this.#checkpoints.has(name)) continue;
      const account = await accountOfPath(join(folder, name));
      if (account === undefined) continue;
      const { ctimeMs } = await stat(join(folder, name));
      this.#checkpoints.set(name, {
        path: join(TRAINING_FOLDER, 'checkpoints', name),
        account,
        completedAtMs: ctimeMs,
      });
    }
  }

  async #readLog(path: string): Promise<void> {
    await using file = await open(path, 'r');
    const fresh = Buffer.alloc(MAX_LOG_READ_BYTES);
    const { bytesRead } = await file.read(fresh, 0, fresh.length, this.#log.length);
    if (bytesRead > 0) this.#log = Buffer.concat([this.#log, fresh.subarray(0, bytesRead)]);
  }
}
