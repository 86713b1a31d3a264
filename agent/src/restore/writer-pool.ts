import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { ThreadPool } from '../workers/thread-pool.ts';
import { OrderWriter } from './order-writer.ts';
import type { WriterAnswer, WriterOrder, WriterSetup } from './orders.ts';

type Done<Type extends WriterOrder['type']> = Extract<
  WriterAnswer,
  { readonly type: { write: 'written'; check: 'checked'; compare: 'compared' }[Type] }
>;

/** Less work than this is done on the calling thread: starting a thread costs about as much. */
const MIN_THREADED_BYTES = 16 * 1024 * 1024;
const MIN_THREADED_FILES = 1_000;

/** Whether work of this size deserves threads. Pure. */
export function deservesThreads(work: { readonly bytes: number; readonly files: number }): boolean {
  return work.bytes >= MIN_THREADED_BYTES || work.files >= MIN_THREADED_FILES;
}

/** Carries out orders, on threads of its own or, for little work, on the calling thread. */
export class WriterPool implements AsyncDisposable {
  readonly #here: OrderWriter | null;
  readonly #threads: ThreadPool<WriterOrder, WriterAnswer>;

  constructor(setup: WriterSetup, options: { readonly clock: Clock; readonly isThreaded: boolean }) {
    this.#here = options.isThreaded ? null : new OrderWriter(setup, options.clock);
    this.#threads = new ThreadPool({ thread: 'restore', workerData: setup });
  }

  /** Buffers of the order are given away. @throws {DumontError} what the order failed with; ABORTED once disposed */
  async run<Type extends WriterOrder['type']>(order: Extract<WriterOrder, { type: Type }>): Promise<Done<Type>> {
    const answer = await this.#answer(order);
    if (answer.type === 'failed') throw new DumontError(answer.code, answer.message);
    return answer as Done<Type>;
  }

  async #answer(order: WriterOrder): Promise<WriterAnswer> {
    if (this.#here !== null) return this.#here.follow(order);
    if (order.type === 'compare') return this.#threads.run(order, []);
    const buffers = order.buffers.map(ownBuffer);
    const transfer = buffers.map((bytes) => bytes.buffer);
    return this.#threads.run({ ...order, buffers }, transfer);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#threads[Symbol.asyncDispose]();
  }
}

/** The bytes in a buffer that holds nothing else, and can be given away. */
function ownBuffer(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const { buffer } = bytes;
  const isOwn = buffer instanceof ArrayBuffer && buffer.byteLength === bytes.length && bytes.length > 0;
  if (isOwn) return new Uint8Array(buffer);
  const copy = new Uint8Array(new ArrayBuffer(bytes.length));
  copy.set(bytes);
  return copy;
}
