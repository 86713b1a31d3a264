import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { assert, must } from '@dumont/shared/util/assert.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import {
  ChunkCoder,
  type CodingOptions,
  type EncodedChunk,
  type ExpectedChunk,
} from '../snapshot/planes/chunk-coder.ts';
import type { CodecAnswer, CodecOrder } from './codec-messages.ts';

/** More threads than this would take from the workload what a disk or a network cannot use anyway. */
const MAX_THREADS = 4;
/** Orders given to a thread at once: one in work and one so that it need not wait for the next. */
const MAX_PER_THREAD = 2;
/** Callers waiting for a thread. Readers and fetchers are eight each and wait for what they asked: more is a mistake. */
const MAX_WAITING = 256;
/** Smaller chunks take less time here than the way to a thread and back. */
const MIN_ORDER_BYTES = 32 * 1024;
/** So much is done here before threads are started, which costs about as much time: most snapshots are small. */
const WARM_UP_BYTES = 4 * 1024 * 1024;

export interface CodecPoolOptions extends CodingOptions {
  /** Bytes coded on the calling thread before threads are started; for tests. */
  readonly warmUpBytes?: number;
}

/**
 * Encodes and decodes chunks on threads of its own, started when there is enough to do. Dispose it when every call has
 * ended; a call that has not is rejected with ABORTED.
 */
export class CodecPool implements AsyncDisposable {
  readonly #coding: CodingOptions;
  readonly #here: ChunkCoder;
  readonly #threads: CodecThread[] = [];
  readonly #waiting: Job[] = [];
  readonly #maxThreads = Math.min(MAX_THREADS, availableParallelism());
  #warmUpBytes: number;
  #isDisposed = false;

  constructor({ warmUpBytes = WARM_UP_BYTES, secrets, effort }: CodecPoolOptions) {
    this.#coding = { secrets, effort };
    this.#here = new ChunkCoder(this.#coding);
    this.#warmUpBytes = warmUpBytes;
  }

  /** @param raw 1 byte to 4 MiB; unchanged until it resolves, not retained after */
  async encode(raw: Uint8Array): Promise<EncodedChunk> {
    if (this.#isDoneHere(raw.length)) return this.#here.encode(raw);
    const copy = new Uint8Array(raw);
    const answer = await this.#run({ type: 'encode', raw: copy }, copy.buffer);
    assert(answer.type === 'encoded', 'a thread answers what it was asked');
    return answer.chunk;
  }

  /**
   * The raw bytes of a chunk from its frame, checked against its id.
   * @param frame unchanged until it resolves
   * @returns possibly a view into `frame`
   * @throws {DumontError} CORRUPT when the frame does not hold exactly this chunk in this codec
   */
  async decode(frame: Uint8Array, expected: ExpectedChunk): Promise<Uint8Array> {
    // A stored chunk is only hashed, which is faster than copying it for a thread.
    if (expected.codec === 'stored' || this.#isDoneHere(expected.rawLength)) return this.#here.decode(frame, expected);
    const copy = new Uint8Array(frame);
    const answer = await this.#run({ type: 'decode', frame: copy, expected }, copy.buffer);
    if (answer.type === 'refused') throw new DumontError('CORRUPT', answer.message);
    assert(answer.type === 'decoded', 'a thread answers what it was asked');
    return answer.raw;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isDisposed = true;
    const ended = new DumontError('ABORTED', 'the codec threads were stopped');
    for (const job of this.#waiting.splice(0)) job.reject(ended);
    await Promise.all(this.#threads.map((thread) => thread.stop(ended)));
  }

  #isDoneHere(lengthBytes: number): boolean {
    if (this.#warmUpBytes <= 0) return lengthBytes < MIN_ORDER_BYTES;
    this.#warmUpBytes -= lengthBytes;
    return true;
  }

  async #run(order: CodecOrder, transfer: ArrayBuffer): Promise<CodecAnswer> {
    if (this.#isDisposed) throw new DumontError('ABORTED', 'the codec threads were stopped');
    assert(this.#waiting.length < MAX_WAITING, 'callers wait for their chunks');
    return new Promise((resolve, reject) => {
      this.#waiting.push({ order, transfer, resolve, reject });
      this.#dispatch();
    });
  }

  #dispatch(): void {
    while (this.#waiting.length > 0) {
      const thread = this.#freeThread();
      if (thread === undefined) return;
      thread.give(must(this.#waiting.shift(), 'a job is waiting'));
    }
  }

  /** An idle thread, else a new one, else one that has room for another order. */
  #freeThread(): CodecThread | undefined {
    const [least] = this.#threads.toSorted((a, b) => a.load - b.load);
    if (least !== undefined && (least.load === 0 || this.#threads.length === this.#maxThreads)) {
      return least.load < MAX_PER_THREAD ? least : undefined;
    }
    const thread = new CodecThread(this.#coding, () => this.#dispatch());
    this.#threads.push(thread);
    return thread;
  }
}

interface Job {
  readonly order: CodecOrder;
  readonly transfer: ArrayBuffer;
  readonly resolve: (answer: CodecAnswer) => void;
  readonly reject: (error: DumontError) => void;
}

/** One worker and the orders it has; answers come in the same order. */
class CodecThread {
  readonly #worker: Worker;
  readonly #jobs: Job[] = [];
  #failure: DumontError | undefined;

  constructor(coding: CodingOptions, onAnswer: () => void) {
    this.#worker = new Worker(new URL('./codec-thread.ts', import.meta.url), { name: 'codec', workerData: coding });
    this.#worker.on('message', (answer: CodecAnswer) => {
      must(this.#jobs.shift(), 'an answer has its order').resolve(answer);
      onAnswer();
    });
    this.#worker.on('error', (error) => this.#fail(toDumontError(error, 'INTERNAL', 'a codec thread ended')));
    this.#worker.on('exit', () => this.#fail(new DumontError('INTERNAL', 'a codec thread ended by itself')));
  }

  get load(): number {
    return this.#jobs.length;
  }

  give(job: Job): void {
    if (this.#failure !== undefined) {
      job.reject(this.#failure);
      return;
    }
    this.#jobs.push(job);
    this.#worker.postMessage(job.order, [job.transfer]);
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
