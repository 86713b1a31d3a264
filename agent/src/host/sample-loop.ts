import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Sample } from '@dumont/shared/protocol/heartbeat.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { toDumontError } from '@dumont/shared/util/errors.ts';
import type { GpuSampler } from './gpu-sampler.ts';
import { HostSampler } from './host-sampler.ts';

/** The dashboard shows a machine's load, it does not steer by it. */
const SAMPLE_MS = 2_000;

export interface SampleLoopOptions {
  readonly workspaceDir: string;
  readonly gpus: Pick<GpuSampler, 'latest'>;
  readonly isOnline: () => boolean;
  readonly send: (sample: Sample) => void;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Sends a sample every two seconds while online. */
export class SampleLoop implements AsyncDisposable {
  readonly #options: SampleLoopOptions;
  readonly #host: HostSampler;
  readonly #cancel: () => void;
  #running: Promise<void> | null = null;
  #isFailing = false;

  constructor(options: SampleLoopOptions) {
    this.#options = options;
    this.#host = new HostSampler(options);
    this.#cancel = options.clock.every(SAMPLE_MS, () => {
      if (options.isOnline()) this.#running ??= this.#sample();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#cancel();
    await this.#running;
  }

  async #sample(): Promise<void> {
    const { gpus, send, log } = this.#options;
    try {
      const host = await this.#host.sample();
      send({ kind: 'sample', gpus: [...gpus.latest()], host });
      this.#isFailing = false;
    } catch (error) {
      // Said once: a machine that cannot be measured now cannot be measured in two seconds either.
      if (!this.#isFailing) {
        log.warn({ event: 'sample-failed', err: toDumontError(error) }, 'cannot measure this machine');
      }
      this.#isFailing = true;
    } finally {
      this.#running = null;
    }
  }
}
