import {
  decodeToPrimary,
  encodeSync,
  SYNC_PROTOCOL_VERSION,
  type SyncEntry,
  type ToPrimary,
  type ToStandby,
} from '@dumont/shared/protocol/sync.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { RawData, WebSocket } from 'ws';
import { releaseBuffers } from '../workers/release-buffers.ts';
import { Flow } from './flow.ts';
import { dialStandby, type SyncKey } from './secure-socket.ts';

/** A standby that says nothing for so long, while it is asked something, is not there. */
const ANSWER_TIMEOUT_MS = 20_000;
/** Reading a folder of terabytes anew. */
const RESCAN_TIMEOUT_MS = 3_600_000;
/** A standby testifies that its primary lives: about as often as the primary tells the control plane itself. */
const SIGN_OF_LIFE_MS = 200;

type Kind = ToPrimary['kind'];
type MessageOf<Name extends Kind> = Extract<ToPrimary, { kind: Name }>;

/** Rate limits and the like: waits until bytes may be sent. */
export type TakeBytes = (bytes: number, signal: AbortSignal) => Promise<void>;

export interface SenderSessionOptions {
  readonly url: string;
  readonly key: SyncKey;
  readonly clock: Clock;
  readonly onAck: (ack: MessageOf<'ack'>) => void;
  readonly takeBytes: TakeBytes;
}

/** One connection to a standby, from the sender's side. Its signal aborts when it ends, with the reason. */
export class SenderSession implements Disposable {
  readonly #options: SenderSessionOptions;
  readonly #socket: WebSocket;
  readonly #ending = new AbortController();
  readonly flow: Flow;
  #waiting: { readonly kind: Kind; readonly resolve: (message: ToPrimary) => void } | null = null;
  readonly #early: ToPrimary[] = [];
  #cancelSilence = () => {};
  readonly #cancelSigns: () => void;

  /** Begins to connect. @param signal ends it */
  constructor(options: SenderSessionOptions, signal: AbortSignal) {
    this.#options = options;
    this.flow = new Flow(options.clock);
    this.#socket = dialStandby(options.url, options.key);
    let failure = `the connection to ${options.url} ended`;
    this.#socket.on('upgrade', (response) => response.socket.setNoDelay(true));
    this.#socket.on('error', (error) => {
      failure = `${options.url}: ${error.message}`;
    });
    this.#socket.on('close', () => this.#end(new DumontError('UNAVAILABLE', failure, { retryable: true })));
    this.#socket.on('message', (data) => this.#receive(data));
    this.#cancelSigns = options.clock.every(SIGN_OF_LIFE_MS, () => this.#showLife());
    const onAbort = () => this.#end(new DumontError('ABORTED', 'sync was stopped'));
    signal.addEventListener('abort', onAbort, { once: true });
    this.signal.addEventListener('abort', () => signal.removeEventListener('abort', onAbort), { once: true });
    if (signal.aborted) onAbort();
  }

  get signal(): AbortSignal {
    return this.#ending.signal;
  }

  /** Introduces itself. @throws {DumontError} what the standby refuses with, UNAVAILABLE */
  async greet(): Promise<MessageOf<'welcome'>> {
    const opened = Promise.withResolvers<void>();
    this.#socket.once('open', () => opened.resolve());
    this.signal.addEventListener('abort', () => opened.reject(this.signal.reason), { once: true });
    if (this.signal.aborted) throw this.signal.reason;
    await opened.promise;
    const { workspaceId, epoch } = this.#options.key;
    const hello = { kind: 'hello', version: SYNC_PROTOCOL_VERSION, workspaceId, epoch };
    return this.#ask(hello as ToStandby, 'welcome', ANSWER_TIMEOUT_MS);
  }

  /** Hashes of the standby's buckets. */
  async compare(): Promise<string> {
    return (await this.#ask({ kind: 'compare' }, 'buckets', ANSWER_TIMEOUT_MS)).hashes;
  }

  /** What the standby has in some buckets. */
  async list(buckets: readonly number[]): Promise<readonly [string, SyncEntry][]> {
    const entries: [string, SyncEntry][] = [];
    let part = await this.#ask({ kind: 'list', buckets: [...buckets] }, 'entries', ANSWER_TIMEOUT_MS);
    for (;;) {
      for (const one of part.entries) entries.push(one);
      if (part.isLast) return entries;
      part = await this.#answer('entries', ANSWER_TIMEOUT_MS);
    }
  }

  /** Has the standby read its whole folder. */
  async rescan(): Promise<void> {
    await this.#ask({ kind: 'rescan' }, 'rescanned', RESCAN_TIMEOUT_MS);
  }

  /** Sends when there is room; the bytes of a buffer are gone afterwards. @throws the reason when the session ended */
  async send(message: ToStandby | Buffer): Promise<void> {
    await this.flow.room(this.signal);
    const data = Buffer.isBuffer(message) ? message : encodeSync(message);
    const bytes = Buffer.byteLength(data);
    await this.#options.takeBytes(bytes, this.signal);
    this.signal.throwIfAborted();
    this.flow.sent(bytes);
    this.#watchSilence();
    // A write that fails is followed by the socket's close. Chunks are ours: what was sent is not needed again.
    this.#socket.send(data, () => (Buffer.isBuffer(data) ? releaseBuffers([data]) : undefined));
  }

  /** Ends it with a reason of ours. */
  fail(reason: DumontError): void {
    this.#end(reason);
  }

  [Symbol.dispose](): void {
    this.#end(new DumontError('ABORTED', 'the sync session is over'));
  }

  #receive(data: RawData): void {
    if (this.signal.aborted) return;
    let message: ToPrimary;
    try {
      const bytes = Buffer.isBuffer(data) ? data : Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data);
      message = decodeToPrimary(bytes.toString());
    } catch (error) {
      this.#end(error instanceof DumontError ? error : new DumontError('PROTOCOL', String(error)));
      return;
    }
    this.#cancelSilence();
    this.#cancelSilence = () => {};
    switch (message.kind) {
      case 'refused':
        this.#end(new DumontError(message.code, `the standby refused: ${message.message}`));
        return;
      case 'progress':
        this.flow.done(message.bytes);
        break;
      case 'ack':
        this.flow.done(message.bytes);
        this.#options.onAck(message);
        break;
      default:
        this.#deliver(message);
    }
    if (this.flow.underWayBytes > 0) this.#watchSilence();
  }

  #deliver(message: ToPrimary): void {
    if (this.#waiting?.kind === message.kind) {
      const { resolve } = this.#waiting;
      this.#waiting = null;
      resolve(message);
    } else if (message.kind === 'entries' && this.#early.length < 1_000) {
      this.#early.push(message);
    } else {
      this.#end(new DumontError('PROTOCOL', `the standby sent ${message.kind} unasked`));
    }
  }

  async #ask<Name extends Kind>(message: ToStandby, kind: Name, withinMs: number): Promise<MessageOf<Name>> {
    const answer = this.#answer(kind, withinMs);
    // Rejects as the answer does.
    answer.catch(() => {});
    await this.send(message);
    return answer;
  }

  async #answer<Name extends Kind>(kind: Name, withinMs: number): Promise<MessageOf<Name>> {
    const early = this.#early.shift();
    if (early !== undefined) return early as MessageOf<Name>;
    const { promise, resolve, reject } = Promise.withResolvers<ToPrimary>();
    this.#waiting = { kind, resolve };
    const onAbort = () => reject(this.signal.reason);
    this.signal.addEventListener('abort', onAbort, { once: true });
    if (this.signal.aborted) onAbort();
    const cancel = this.#options.clock.after(withinMs, () =>
      this.#end(new DumontError('TIMEOUT', `the standby did not answer with ${kind} in ${withinMs} ms`)),
    );
    try {
      return (await promise) as MessageOf<Name>;
    } finally {
      cancel();
      this.signal.removeEventListener('abort', onAbort);
    }
  }

  /** What waits to be sent is a sign of life as well. */
  #showLife(): void {
    if (this.#socket.readyState !== this.#socket.OPEN || this.#socket.bufferedAmount > 0) return;
    this.#socket.ping(undefined, undefined, () => {});
  }

  /** What is under way must show some progress. */
  #watchSilence(): void {
    if (this.#waiting !== null) return;
    this.#cancelSilence();
    this.#cancelSilence = this.#options.clock.after(ANSWER_TIMEOUT_MS, () => {
      // Less than it reports at once may stay unconfirmed while nothing is asked.
      if (this.flow.underWayBytes <= 1024 * 1024) return;
      this.#end(new DumontError('TIMEOUT', `the standby was silent for ${ANSWER_TIMEOUT_MS} ms`, { retryable: true }));
    });
  }

  #end(reason: DumontError): void {
    if (this.signal.aborted) return;
    this.#cancelSilence();
    this.#cancelSigns();
    this.#ending.abort(reason);
    this.#socket.terminate();
  }
}
