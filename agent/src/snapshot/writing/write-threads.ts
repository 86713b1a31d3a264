import type { Worker } from 'node:worker_threads';
import type { PackIndexEntry } from '@dumont/shared/format/pack.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { DumontError, systemErrorCode, toDumontError } from '@dumont/shared/util/errors.ts';
import { startThread } from '../../node/assets.ts';
import type { ChunkLocation, PackWriter } from '../pack-writer.ts';
import type { CodingOptions } from '../planes/chunk-coder.ts';
import type { SharedClaims } from './chunk-claims.ts';
import {
  unpackLocations,
  type PackedLocations,
  type WriteOrder,
  type WriteReport,
  type WriteTask,
  type WriteTaskResult,
  type WriteThreadData,
} from './write-messages.ts';

/** Tasks given to a thread at once while many are left: one in work and one so that it need not wait for the next. */
const MAX_TASKS_AHEAD = 2;

/** Most of what a thread allocates dies at once: a small nursery is as fast and keeps three times less memory. */
const RESOURCE_LIMITS = { maxYoungGenerationSizeMb: 12 };

export interface WriteThreadsOptions {
  readonly count: number;
  readonly coding: CodingOptions;
  readonly claims: SharedClaims;
  readonly packs: PackWriter;
  readonly onLocated: (location: ChunkLocation) => void;
  readonly onBytes: (byteCount: number) => void;
}

/** A task and who wants its result. */
export interface QueuedTask {
  readonly task: WriteTask;
  /** May queue more tasks. */
  readonly onDone: (result: WriteTaskResult) => void;
}

/**
 * Threads that read files and write their chunks. Tasks are started in their order and end in any. After the first failure,
 * of a thread or told by {@link fail}, every wait throws it. Dispose it to stop: no thread is left afterwards.
 */
export class WriteThreads implements AsyncDisposable {
  readonly #options: WriteThreadsOptions;
  readonly #threads: readonly WriteThread[];
  readonly #queue: QueuedTask[] = [];
  #idle: PromiseWithResolvers<void> | undefined;
  #failure: { readonly error: unknown } | undefined;

  constructor(options: WriteThreadsOptions) {
    this.#options = options;
    const toFail = (error: unknown) => this.fail(error);
    const onTurn = () => this.#dispatch();
    this.#threads = Array.from({ length: options.count }, () => new WriteThread(options, { toFail, onTurn }));
  }

  add(task: QueuedTask): void {
    this.#queue.push(task);
  }

  /** Follows the tasks added, and those added meanwhile, to the last. */
  async run(): Promise<void> {
    this.#throwFailure();
    this.#idle = Promise.withResolvers();
    this.#dispatch();
    await this.#idle.promise;
  }

  /** Sends the packs that are being filled to the pack writer. Only between two runs. */
  async flush(): Promise<void> {
    this.#throwFailure();
    await Promise.all(this.#threads.map((thread) => thread.flush()));
  }

  /** Lets other claims decide. Only between two runs. */
  setClaims(claims: SharedClaims): void {
    for (const thread of this.#threads) thread.order({ type: 'claims', claims: claims.buffer });
  }

  fail(error: unknown): void {
    this.#failure ??= { error };
    this.#queue.length = 0;
    this.#idle?.reject(this.#failure.error);
    for (const thread of this.#threads) thread.forget(this.#failure.error);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.fail(new DumontError('ABORTED', 'the write threads were stopped'));
    await Promise.all(this.#threads.map((thread) => thread.stop()));
  }

  #dispatch(): void {
    if (this.#failure !== undefined) return;
    for (let ahead = 1; ahead <= MAX_TASKS_AHEAD; ahead += 1) {
      for (const thread of this.#threads) {
        // The last tasks wait here for whoever is free first.
        if (ahead > 1 && this.#queue.length <= this.#options.count) break;
        if (thread.load < ahead && this.#queue.length > 0) thread.give(must(this.#queue.shift(), 'a task is left'));
      }
    }
    if (this.#threads.every(({ load }) => load === 0)) this.#idle?.resolve();
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}

interface ThreadHooks {
  readonly toFail: (error: unknown) => void;
  /** A task is done. */
  readonly onTurn: () => void;
}

/** One worker, the tasks it has, and the packs it told of. */
class WriteThread {
  readonly #options: WriteThreadsOptions;
  readonly #hooks: ThreadHooks;
  readonly #worker: Worker;
  readonly #tasks: QueuedTask[] = [];
  /** Entries of packs not handed over yet. */
  readonly #entries = new Map<string, PackIndexEntry[]>();
  #flushed: PromiseWithResolvers<void> | undefined;

  constructor(options: WriteThreadsOptions, hooks: ThreadHooks) {
    this.#options = options;
    this.#hooks = hooks;
    const data: WriteThreadData = { coding: options.coding, claims: options.claims.buffer };
    this.#worker = startThread('write', {
      name: 'write',
      workerData: data,
      resourceLimits: RESOURCE_LIMITS,
    });
    this.#worker.on('message', (report: WriteReport) => this.#handle(report));
    this.#worker.on('error', (error) => {
      const code = systemErrorCode(error) === undefined ? 'INTERNAL' : 'IO';
      hooks.toFail(toDumontError(error, code, 'reading files'));
    });
    this.#worker.on('exit', () => hooks.toFail(new DumontError('INTERNAL', 'a write thread ended by itself')));
  }

  get load(): number {
    return this.#tasks.length;
  }

  give(task: QueuedTask): void {
    this.#tasks.push(task);
    this.order({ type: 'task', task: task.task });
  }

  order(order: WriteOrder, transfer: readonly ArrayBuffer[] = []): void {
    this.#worker.postMessage(order, transfer);
  }

  async flush(): Promise<void> {
    this.#flushed = Promise.withResolvers();
    this.order({ type: 'flush' });
    await this.#flushed.promise;
  }

  /** Nobody waits for its answers any more. */
  forget(error: unknown): void {
    this.#tasks.length = 0;
    this.#flushed?.reject(error);
  }

  async stop(): Promise<void> {
    await this.#worker.terminate();
  }

  #handle(report: WriteReport): void {
    switch (report.type) {
      case 'done': {
        this.#learn(report.located);
        this.#tasks.shift()?.onDone(report.result);
        this.#hooks.onTurn();
        break;
      }
      case 'pack': {
        this.#learn(report.located);
        const { packId, buffer, length } = report;
        const entries = must(this.#entries.get(packId), 'a pack holds chunks told of');
        this.#entries.delete(packId);
        this.#options.packs.upload({ packId, buffer, length, entries });
        break;
      }
      case 'need-buffer':
        this.#options.packs.takeBuffer().then(
          (buffer) => this.order({ type: 'buffer', buffer }, [buffer]),
          (error: unknown) => this.#hooks.toFail(error),
        );
        break;
      case 'progress':
        this.#options.onBytes(report.readBytes);
        break;
      case 'flushed':
        this.#flushed?.resolve();
        break;
    }
  }

  #learn(packed: PackedLocations): void {
    for (const location of unpackLocations(packed)) {
      this.#options.onLocated(location);
      const entries = this.#entries.get(location.packId);
      if (entries === undefined) this.#entries.set(location.packId, [location]);
      else entries.push(location);
    }
  }
}
