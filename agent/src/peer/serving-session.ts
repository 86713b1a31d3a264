import { setImmediate as letOthersRun } from 'node:timers/promises';
import {
  decodeToHolder,
  MAX_ASKED_AT_ONCE,
  type ToHolder,
  type ToReader,
} from '@dumont/shared/protocol/chunk-serving.ts';
import { putChunkHeader, SYNC_CHUNK_HEADER_BYTES } from '@dumont/shared/protocol/sync.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import type { RawData, WebSocket } from 'ws';
import { maxFrameBytes, type ChunkCoder } from '../snapshot/planes/chunk-coder.ts';
import type { ChunkHolder } from './chunk-holder.ts';

/** Not yet taken by the socket; with more the next chunk is not read, so that a slow reader costs no memory. */
const MAX_BUFFERED_BYTES = 4 * 1024 * 1024;

type Get = Extract<ToHolder, { kind: 'get' }>;

/** One connection of a reader: answers its requests one after another, and ends at the first message that is wrong. */
export class ServingSession {
  readonly #socket: WebSocket;
  readonly #holder: ChunkHolder;
  readonly #coder: ChunkCoder;
  readonly #onEnd: (reason: DumontError | null) => void;
  readonly #waiting: Get[] = [];
  /** Being answered; null when its reader wants no more of it. */
  #current: Get | null = null;
  #isServing = false;
  #isOver = false;

  constructor(
    socket: WebSocket,
    parts: {
      readonly holder: ChunkHolder;
      readonly coder: ChunkCoder;
      readonly onEnd: (reason: DumontError | null) => void;
    },
  ) {
    this.#socket = socket;
    this.#holder = parts.holder;
    this.#coder = parts.coder;
    this.#onEnd = parts.onEnd;
    socket.on('message', (data, isBinary) => this.#receive(data, isBinary));
    // What went wrong with a connection is told by its close.
    socket.on('error', () => {});
    socket.on('close', () => this.end());
  }

  /** Idempotent. */
  end(reason: DumontError | null = null): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#waiting.length = 0;
    this.#current = null;
    this.#socket.terminate();
    this.#onEnd(reason);
  }

  #receive(data: RawData, isBinary: boolean): void {
    if (this.#isOver) return;
    try {
      if (isBinary) throw new DumontError('PROTOCOL', 'a reader sends no chunks');
      const bytes = Buffer.isBuffer(data) ? data : Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data);
      this.#obey(decodeToHolder(bytes.toString()));
    } catch (error) {
      this.end(toDumontError(error));
    }
  }

  #obey(message: ToHolder): void {
    if (message.kind === 'cancel') {
      if (this.#current?.request === message.request) this.#current = null;
      const index = this.#waiting.findIndex(({ request }) => request === message.request);
      if (index !== -1) this.#waiting.splice(index, 1);
      return;
    }
    if (this.#waiting.length >= MAX_ASKED_AT_ONCE) throw new DumontError('LIMIT', 'too many requests at once');
    this.#waiting.push(message);
    if (!this.#isServing) void this.#serve();
  }

  /** Never rejects. */
  async #serve(): Promise<void> {
    this.#isServing = true;
    try {
      for (let get = this.#waiting.shift(); get !== undefined; get = this.#waiting.shift()) await this.#answer(get);
    } catch (error) {
      this.end(toDumontError(error));
    }
    this.#isServing = false;
  }

  async #answer(get: Get): Promise<void> {
    const { request, chunks } = get;
    // Said before anything is sent: half a request is of no use.
    if (!chunks.every(([chunkId]) => this.#holder.has(chunkId))) return this.#tell({ kind: 'missed', request });
    this.#current = get;
    for (const [index, [chunkId, length]] of chunks.entries()) {
      // It may have been cancelled, or the session ended, while the last one was sent.
      if (this.#current !== get) return;
      const raw = this.#holder.read(chunkId, length);
      if (raw === null) return this.#tell({ kind: 'missed', request });
      await this.#send(this.#messageOf(raw, { request, index, chunkId }));
    }
    this.#current = null;
    this.#tell({ kind: 'done', request });
  }

  #messageOf(raw: Buffer, { request, index, chunkId }: { request: number; index: number; chunkId: string }): Buffer {
    const message = Buffer.allocUnsafeSlow(SYNC_CHUNK_HEADER_BYTES + maxFrameBytes(raw.length));
    const { length, codec } = this.#coder.encodeInto(raw, {}, message, SYNC_CHUNK_HEADER_BYTES);
    putChunkHeader(message, { stage: request, offset: index, chunkId, rawLength: raw.length, codec });
    return message.subarray(0, SYNC_CHUNK_HEADER_BYTES + length);
  }

  async #send(message: Buffer): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    // A write that fails is followed by the socket's close.
    this.#socket.send(message, () => resolve());
    // Whoever works or syncs on this machine comes first.
    if (this.#socket.bufferedAmount > MAX_BUFFERED_BYTES) await promise;
    else await letOthersRun();
  }

  #tell(message: ToReader): void {
    if (!this.#isOver) this.#socket.send(JSON.stringify(message), () => {});
  }
}
