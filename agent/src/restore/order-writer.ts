import type { Clock } from '@dumont/shared/util/clock.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { isDumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import { ChunkCoder } from '../snapshot/planes/chunk-coder.ts';
import { keepFrames } from './cache-segment.ts';
import { LocalReader } from './local-reuse.ts';
import { OrderFiles } from './order-files.ts';
import type { Flaws, OrderChunk, WriterAnswer, WriterOrder, WriterSetup } from './orders.ts';

/** Attributes that could not be set are listed up to this number, then only counted. */
const MAX_LISTED = 20;

type WriteOrder = Extract<WriterOrder, { type: 'write' }>;
type CheckOrder = Extract<WriterOrder, { type: 'check' }>;
type CompareOrder = Extract<WriterOrder, { type: 'compare' }>;

/**
 * Carries out orders on the thread it is called on, with synchronous calls: those cost a sixth of asynchronous ones, and
 * a restore of small files is nothing else. Nothing stays open between orders.
 */
export class OrderWriter {
  readonly #setup: WriterSetup;
  readonly #clock: Clock;
  readonly #coder: ChunkCoder;
  readonly #reader: LocalReader;

  constructor(setup: WriterSetup, clock: Clock) {
    this.#setup = setup;
    this.#clock = clock;
    this.#coder = new ChunkCoder(setup.coding);
    this.#reader = new LocalReader(setup);
  }

  /** The answer; a failure is one too. What a failed order began is removed, but for temporary files it did not make. */
  follow(order: WriterOrder): WriterAnswer {
    try {
      switch (order.type) {
        case 'write':
          return this.#write(order);
        case 'check':
          return this.#check(order);
        case 'compare':
          return this.#compare(order);
      }
    } catch (error) {
      const { code, message } = toDumontError(error, 'IO', `restoring to ${this.#setup.place.root}`);
      return { type: 'failed', code, message };
    }
  }

  #write(order: WriteOrder): WriterAnswer {
    const flaws = new FlawList();
    let decodeMs = 0;
    let bytesWritten = 0;
    using files = new OrderFiles(order.files, this.#setup.place, flaws.add);
    const decoder = new Decoder(this.#coder, order);
    for (const [index, chunk] of order.chunks.entries()) {
      const begunMs = this.#clock.monotonicMs();
      const raw = decoder.decode(index);
      decodeMs += this.#clock.monotonicMs() - begunMs;
      for (const use of chunk.uses) {
        files.write(use.file, raw.subarray(use.from, use.from + use.length), use.offset);
        bytesWritten += use.length;
      }
    }
    if (order.keep !== null) keepFrames(order.keep, order);
    return { type: 'written', bytesWritten, decodeMs, flaws: flaws.toFlaws() };
  }

  #check(order: CheckOrder): WriterAnswer {
    const decoder = new Decoder(this.#coder, order);
    const damaged: { chunkId: string; message: string }[] = [];
    for (const [index, { chunkId }] of order.chunks.entries()) {
      try {
        decoder.decode(index);
      } catch (error) {
        if (!isDumontError(error, 'CORRUPT')) throw error;
        damaged.push({ chunkId, message: error.message });
      }
    }
    return { type: 'checked', damaged };
  }

  #compare(order: CompareOrder): WriterAnswer {
    const flaws = new FlawList();
    const files = order.files.map((file) => this.#reader.compare(file, flaws.add));
    return { type: 'compared', files, flaws: flaws.toFlaws() };
  }
}

/** Decodes the chunks of an order in their order, keeping the base of the differences that follow it. */
class Decoder {
  readonly #coder: ChunkCoder;
  readonly #buffers: readonly Uint8Array[];
  readonly #chunks: readonly OrderChunk[];
  #base: Uint8Array | undefined;

  constructor(
    coder: ChunkCoder,
    order: { readonly buffers: readonly Uint8Array[]; readonly chunks: readonly OrderChunk[] },
  ) {
    this.#coder = coder;
    this.#buffers = order.buffers;
    this.#chunks = order.chunks;
  }

  /** @returns valid until the next call. @throws {DumontError} CORRUPT */
  decode(index: number): Uint8Array {
    const chunk = must(this.#chunks[index], 'the order has this chunk');
    const bytes = must(this.#buffers[chunk.buffer], 'every range of the order was fetched');
    const frame = bytes.subarray(chunk.start, chunk.start + chunk.storedLength);
    if (chunk.codec === 'delta') return this.#coder.decodeView(frame, chunk, this.#base);
    this.#base = undefined;
    const raw = this.#coder.decodeView(frame, chunk);
    // A copy, because what the coder gives may lie in memory that its next call uses.
    if (this.#chunks[index + 1]?.codec === 'delta') this.#base = Buffer.from(raw);
    return raw;
  }
}

class FlawList {
  readonly #listed: string[] = [];
  #count = 0;

  readonly add = (flaw: string): void => {
    this.#count += 1;
    if (this.#listed.length < MAX_LISTED) this.#listed.push(flaw);
  };

  toFlaws(): Flaws {
    return { count: this.#count, listed: this.#listed };
  }
}
