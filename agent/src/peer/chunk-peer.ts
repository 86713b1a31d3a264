import type { Logger } from '@dumont/shared/node/logger.ts';
import { decodeToReader, MAX_ASKED_CHUNKS, type ToHolder } from '@dumont/shared/protocol/chunk-serving.ts';
import type { Assignment } from '@dumont/shared/protocol/hello.ts';
import { readChunk, type SyncChunk } from '@dumont/shared/protocol/sync.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import type { RawData, WebSocket } from 'ws';
import { dialHolder, type ReaderKey } from '../sync/secure-socket.ts';

/** Enough to keep a fast link busy; what a slow one has under way is small. */
const MAX_AT_ONCE = 3;
/** A peer that is silent so long, while it is asked something, is not there. */
const SILENCE_MS = 5_000;
const RECONNECT_MS = 1_000;
/** Connections that came to nothing, one after another, before it is left alone for this restore. */
const MAX_FAILURES = 10;
/** Frames of one request: those of a job, which the store may hold better compressed. A peer that sends more is hostile. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

export interface WantedChunk {
  readonly chunkId: string;
  readonly rawLength: number;
}

/** A chunk as the peer sent it, unchecked but for its length and place. */
export type PeerFrame = Pick<SyncChunk, 'chunkId' | 'rawLength' | 'codec'> & { readonly frame: Buffer };

/** Where chunks can be had besides the store. */
export interface PeerPlace extends ReaderKey {
  readonly url: string;
}

/** Where an assignment says that chunks can be had; undefined where it says nothing of it. */
export function peerOf({ chunks, workspaceId }: Assignment): PeerPlace | undefined {
  return chunks?.role === 'fetch' ? { ...chunks, workspaceId } : undefined;
}

interface Asked {
  readonly wanted: readonly WantedChunk[];
  readonly frames: PeerFrame[];
  bytes: number;
  readonly resolve: (frames: readonly PeerFrame[] | null) => void;
}

/**
 * A standby that serves chunks. It is never needed: whatever goes wrong with it is an answer of null. Nothing it says is
 * believed before it was checked by whoever uses it. Dispose it to hang up.
 */
export class ChunkPeer implements Disposable {
  readonly #place: PeerPlace;
  readonly #clock: Clock;
  readonly #log: Logger | undefined;
  #socket: WebSocket | null = null;
  #failures = 0;
  #isOver = false;
  #nextRequest = 1;
  readonly #asked = new Map<number, Asked>();
  #slotsTaken = 0;
  readonly #slotWaiters: (() => void)[] = [];
  #cancelReconnect = () => {};
  #cancelSilence = () => {};

  /** Begins to connect. */
  constructor(place: PeerPlace, parts: { readonly clock: Clock; readonly log?: Logger | undefined }) {
    this.#place = place;
    this.#clock = parts.clock;
    this.#log = parts.log;
    this.#connect();
  }

  /** Connected, and not busy. */
  get hasRoom(): boolean {
    return this.#isOpen && this.#slotsTaken < MAX_AT_ONCE;
  }

  /**
   * Asks for chunks when there is room for it.
   * @returns their frames in this order; null when it lacks one, or none of this comes to anything, or the signal aborts
   */
  async fetch(wanted: readonly WantedChunk[], signal: AbortSignal): Promise<readonly PeerFrame[] | null> {
    if (wanted.length === 0 || wanted.length > MAX_ASKED_CHUNKS) return null;
    if (!(await this.#takeSlot(signal))) return null;
    try {
      if (!this.#isOpen || signal.aborted) return null;
      return await this.#ask(wanted, signal);
    } finally {
      this.#slotsTaken -= 1;
      this.#slotWaiters.shift()?.();
    }
  }

  /** What it sent was not what it said: it is asked nothing more. */
  distrust(reason: DumontError): void {
    if (this.#isOver) return;
    this.#log?.warn({ event: 'peer-distrusted', err: reason }, 'a peer sent what is not what its id says');
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    this.#cancelReconnect();
    this.#hangUp();
  }

  get #isOpen(): boolean {
    return this.#socket?.readyState === this.#socket?.OPEN && this.#socket !== null;
  }

  #connect(): void {
    if (this.#isOver || this.#failures >= MAX_FAILURES) return;
    const socket = dialHolder(this.#place.url, this.#place);
    this.#socket = socket;
    socket.on('error', () => {});
    socket.on('close', () => this.#closed(socket));
    socket.on('message', (data, isBinary) => {
      try {
        this.#receive(bytesOf(data), isBinary);
      } catch (error) {
        this.distrust(toDumontError(error));
      }
    });
  }

  #closed(socket: WebSocket): void {
    if (this.#socket !== socket) return;
    this.#failures += 1;
    this.#hangUp();
    if (!this.#isOver) this.#cancelReconnect = this.#clock.after(RECONNECT_MS, () => this.#connect());
  }

  #hangUp(): void {
    this.#cancelSilence();
    const socket = this.#socket;
    this.#socket = null;
    socket?.terminate();
    for (const { resolve } of this.#asked.values()) resolve(null);
    this.#asked.clear();
    // Whoever waits for room finds that there is nobody to ask.
    for (const wake of this.#slotWaiters.splice(0)) wake();
  }

  async #takeSlot(signal: AbortSignal): Promise<boolean> {
    while (this.#slotsTaken >= MAX_AT_ONCE) {
      if (signal.aborted || !this.#isOpen) return false;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#slotWaiters.push(resolve);
      signal.addEventListener('abort', () => resolve(), { once: true });
      await promise;
      const index = this.#slotWaiters.indexOf(resolve);
      if (index !== -1) this.#slotWaiters.splice(index, 1);
    }
    if (signal.aborted || !this.#isOpen) {
      // It was woken in place of another.
      this.#slotWaiters.shift()?.();
      return false;
    }
    this.#slotsTaken += 1;
    return true;
  }

  async #ask(wanted: readonly WantedChunk[], signal: AbortSignal): Promise<readonly PeerFrame[] | null> {
    const request = this.#nextRequest;
    this.#nextRequest += 1;
    const { promise, resolve } = Promise.withResolvers<readonly PeerFrame[] | null>();
    this.#asked.set(request, { wanted, frames: [], bytes: 0, resolve });
    const onAbort = () => {
      this.#asked.delete(request);
      this.#send({ kind: 'cancel', request });
      resolve(null);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    this.#send({
      kind: 'get',
      request,
      chunks: wanted.map(({ chunkId, rawLength }): [string, number] => [chunkId, rawLength]),
    });
    this.#watchSilence();
    try {
      return await promise;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  #receive(bytes: Buffer, isBinary: boolean): void {
    this.#failures = 0;
    this.#watchSilence();
    if (isBinary) {
      this.#takeChunk(bytes);
      return;
    }
    const { kind, request } = decodeToReader(bytes.toString());
    const asked = this.#asked.get(request);
    // Cancelled meanwhile.
    if (asked === undefined) return;
    this.#asked.delete(request);
    const isWhole = kind === 'done' && asked.frames.length === asked.wanted.length;
    asked.resolve(isWhole ? asked.frames : null);
    if (this.#asked.size === 0) this.#cancelSilence();
  }

  #takeChunk(message: Buffer): void {
    const { chunk, frame } = readChunk(message);
    const asked = this.#asked.get(chunk.stage);
    if (asked === undefined) return;
    const expected = asked.wanted[asked.frames.length];
    const { chunkId, rawLength, codec } = chunk;
    if (expected?.chunkId !== chunkId || expected.rawLength !== rawLength) {
      throw new DumontError('PROTOCOL', 'a peer sent a chunk that was not asked for');
    }
    asked.bytes += frame.length;
    if (asked.bytes > MAX_ANSWER_BYTES) throw new DumontError('LIMIT', 'a peer sent too much for one request');
    asked.frames.push({ chunkId, rawLength, codec, frame });
  }

  #send(message: ToHolder): void {
    if (this.#isOpen) this.#socket?.send(JSON.stringify(message), () => {});
  }

  #watchSilence(): void {
    this.#cancelSilence();
    this.#cancelSilence = () => {};
    if (this.#asked.size === 0) return;
    // Its close does the rest.
    this.#cancelSilence = this.#clock.after(SILENCE_MS, () => this.#socket?.terminate());
  }
}

function bytesOf(data: RawData): Buffer {
  return Buffer.isBuffer(data) ? data : Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data);
}
