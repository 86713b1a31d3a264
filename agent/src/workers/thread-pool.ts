import { availableParallelism } from 'node:os';
import type { Worker } from 'node:worker_threads';
import { assert, must } from '@dumont/shared/util/assert.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import { startThread, type ThreadName } from '../node/assets.ts';

/** More threads than this would take from the workload what a disk or a network cannot use anyway. */
const MAX_THREADS = 4;
/** Most of what a thread allocates dies at once: a small nursery is as fast and keeps three times less memory. */
const RESOURCE_LIMITS = { maxYoungGenerationSizeMb: 12 };
/** Orders given to a thread at once: one in work and one so that it need not wait for the next. */
const MAX_PER_THREAD = 2;
/** Orders waiting for a thread; callers hold back by what they hold in memory long before. */
const MAX_WAITING = 4_096;

export interface ThreadPoolOptions {
  /** What a thread runs: it answers every message it gets with one, in their order. */
  readonly thread: ThreadName;
  readonly workerData: unknown;
}

/**
 * Threads that carry out orders, started one by one as there is work for them. Dispose it to stop them at once: what has
 * no answer yet is rejected with ABORTED.
 */
export class ThreadPool<Order, Answer> implements AsyncDisposable {
  readonly #options: ThreadPoolOptions;
  readonly #threads: Thread<Order, Answer>[] = [];
  readonly #waiting: Job<Order, Answer>[] = [];
  readonly #maxThreads = Math.min(MAX_THREADS, availableParallelism());
  #isDisposed = false;

  constructor(options: ThreadPoolOptions) {
    this.#options = options;
  }

  /** @param transfer buffers of the order that are given away. @throws {DumontError} INTERNAL when the thread ended */
  run(order: Order, transfer: readonly ArrayBuffer[]): Promise<Answer> {
    if (this.#isDisposed) return Promise.reject(stopped());
    assert(this.#waiting.length < MAX_WAITING, 'callers wait for what they ordered');
    return new Promise((resolve, reject) => {
      this.#waiting.push({ order, transfer, resolve, reject });
      this.#dispatch();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isDisposed = true;
    for (const job of this.#waiting.splice(0)) job.reject(stopped());
    await Promise.all(this.#threads.map((thread) => thread.stop(stopped())));
  }

  #dispatch(): void {
    while (this.#waiting.length > 0) {
      const thread = this.#freeThread();
      if (thread === undefined) return;
      thread.give(must(this.#waiting.shift(), 'a job is waiting'));
    }
  }

  /** An idle thread, else a new one, else one that has room for another order. */
  #freeThread(): Thread<Order, Answer> | undefined {
    const [least] = this.#threads.toSorted((a, b) => a.load - b.load);
    if (least !== undefined && (least.load === 0 || this.#threads.length === this.#maxThreads)) {
      return least.load < MAX_PER_THREAD ? least : undefined;
    }
    const thread = new Thread<Order, Answer>(this.#options, () => this.#dispatch());
    this.#threads.push(thread);
    return thread;
  }
}

interface Job<Order, Answer> {
  readonly order: Order;
  readonly transfer: readonly ArrayBuffer[];
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: DumontError) => void;
}

/** One worker and the orders it has; answers come in the same order. */
class Thread<Order, Answer> {
  readonly #worker: Worker;
  readonly #jobs: Job<Order, Answer>[] = [];
  #failure: DumontError | undefined;

  constructor({ thread, workerData }: ThreadPoolOptions, onAnswer: () => void) {
    this.#worker = startThread(thread, { name: thread, workerData, resourceLimits: RESOURCE_LIMITS });
    this.#worker.on('message', (answer: Answer) => {
      // An answer may still arrive while the thread is being stopped: its order was rejected then.
      if (this.#failure !== undefined) return;
      must(this.#jobs.shift(), 'an answer has its order').resolve(answer);
      onAnswer();
    });
    this.#worker.on('error', (error) => this.#fail(toDumontError(error, 'INTERNAL', `a ${thread} thread ended`)));
    this.#worker.on('exit', () => this.#fail(new DumontError('INTERNAL', `a ${thread} thread ended by itself`)));
  }

  get load(): number {
    return this.#jobs.length;
  }

  give(job: Job<Order, Answer>): void {
    if (this.#failure !== undefined) {
      job.reject(this.#failure);
      return;
    }
    this.#jobs.push(job);
    this.#worker.postMessage(job.order, job.transfer);
  }

  async stop(reason: DumontError): Promise<void> {
    this.#fail(reason);
    await this.#worker.terminate();
  }

  #fail(failure: DumontError): void {
    this.#failure ??= failure;
    for (const job of this.#jobs.splice(0)) job.reject(this.#failure);
  }
}

function stopped(): DumontError {
  return new DumontError('ABORTED', 'the threads were stopped');
}
