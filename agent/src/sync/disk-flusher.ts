import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';

/** What a standby acknowledged is on its disk after this and the time one flush takes. */
const FLUSH_INTERVAL_MS = 2_000;
const FLUSH_TIMEOUT_MS = 60_000;

const run = promisify(execFile);

/**
 * Brings a folder's file system to disk now and then while something is written to it. What a process wrote survives the
 * process without that; only a crash of the machine takes what was not flushed. Runs beside the process, by `sync -f`:
 * waiting for a disk would hold up what comes next.
 */
export class DiskFlusher implements AsyncDisposable {
  readonly #options: { readonly root: string; readonly clock: Clock; readonly log: Logger };
  readonly #stopping = new AbortController();
  #seq = 0;
  #durableSeq: number | null = null;
  #cancel: (() => void) | null = null;
  #running: Promise<void> = Promise.resolve();
  #hasFailed = false;

  constructor(options: { readonly root: string; readonly clock: Clock; readonly log: Logger }) {
    this.#options = options;
  }

  /** The last batch that a crash of the machine does not take; null before the first flush, and where none succeeds. */
  get durableSeq(): number | null {
    return this.#durableSeq;
  }

  /** A batch was carried out. */
  wrote(seq: number): void {
    this.#seq = seq;
    this.#cancel ??= this.#options.clock.after(FLUSH_INTERVAL_MS, () => {
      this.#running = this.#flush();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#cancel?.();
    this.#stopping.abort();
    await this.#running;
  }

  /** Never rejects. */
  async #flush(): Promise<void> {
    const { root, log } = this.#options;
    const seq = this.#seq;
    try {
      await run('sync', ['-f', root], { timeout: FLUSH_TIMEOUT_MS, signal: this.#stopping.signal });
      this.#durableSeq = seq;
    } catch (error) {
      if (this.#stopping.signal.aborted) return;
      if (!this.#hasFailed)
        log.warn({ event: 'sync-flush-failed', err: error }, 'the folder could not be brought to disk');
      this.#hasFailed = true;
    }
    this.#cancel = null;
    if (this.#seq !== seq) this.wrote(this.#seq);
  }
}
