import { setImmediate as letOthersRun } from 'node:timers/promises';
import type { Logger } from '@dumont/shared/node/logger.ts';
import {
  decodeToStandby,
  encodeSync,
  MAX_POOL_BYTES,
  MAX_SYNC_FILE_CHUNKS,
  readChunk,
  SYNC_PROTOCOL_VERSION,
  type SyncEntry,
  type ToPrimary,
  type ToStandby,
} from '@dumont/shared/protocol/sync.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import type { RawData, WebSocket } from 'ws';
import { ChunkCoder } from '../snapshot/planes/chunk-coder.ts';
import { releaseBuffers } from '../workers/release-buffers.ts';
import type { SyncKey } from './secure-socket.ts';
import type { StandbyFolder } from './standby-folder.ts';

const HELLO_TIMEOUT_MS = 5_000;
/** Above this the socket is not read until some is dealt with. An honest sender has 16 MiB under way at most. */
const PAUSE_BYTES = 8 * 1024 * 1024;
/** Told to the sender this often at least, so that its window moves. */
const PROGRESS_BYTES = 256 * 1024;
/** Entries and bytes of one listing message, roughly. */
const LIST_ENTRIES = 4_096;
const LIST_BYTES = 1024 * 1024;
/** Of an entry in JSON without its chunks, and of a chunk. */
const ENTRY_BYTES = 300;
const CHUNK_BYTES = 80;

export interface SessionHost {
  readonly key: SyncKey;
  readonly clock: Clock;
  readonly log: Logger;
  readonly folder: StandbyFolder;
  /** Why no session may go on, null when one may. */
  objection(): DumontError | null;
  /** The session is the one from here on. */
  greeted(session: ReceiverSession): void;
  seq(): number;
  /** A batch was carried out, or a part of it under the old number: writes it down. */
  remember(seq: number, changed: Iterable<string>): void;
  rescan(signal: AbortSignal): Promise<void>;
}

/** One connection of a sender: deals with its messages one after another, and ends at the first that is wrong. */
export class ReceiverSession {
  readonly #socket: WebSocket;
  readonly #host: SessionHost;
  readonly #coder = new ChunkCoder({ secrets: null, effort: 'fast' });
  readonly #inbox: (string | Buffer)[] = [];
  readonly #pool = new Map<string, Uint8Array>();
  /** Messages that chunks of the pool are parts of. */
  readonly #frames: Buffer[] = [];
  readonly #ending = new AbortController();
  #poolBytes = 0;
  #inboxBytes = 0;
  #isPumping = false;
  #isGreeted = false;
  #doneBytes = 0;
  #toldBytes = 0;
  #cancelTimer = () => {};

  constructor(socket: WebSocket, host: SessionHost) {
    this.#socket = socket;
    this.#host = host;
  }

  start(): void {
    this.#cancelTimer = this.#host.clock.after(HELLO_TIMEOUT_MS, () => this.end());
    this.#socket.on('message', (data, isBinary) => this.#receive(data, isBinary));
    // What went wrong with a connection is told by its close.
    this.#socket.on('error', () => {});
    this.#socket.on('close', () => this.end());
  }

  /** False while what the sender says waits outside, because too much waits inside. */
  get isListening(): boolean {
    return !this.#socket.isPaused;
  }

  /** Ends it without a word; idempotent. */
  end(): void {
    this.#cancelTimer();
    this.#ending.abort(new DumontError('ABORTED', 'the sync session ended'));
    this.#inbox.length = 0;
    this.#pool.clear();
    this.#socket.terminate();
  }

  /** Ends it with the reason. */
  refuse(error: DumontError): void {
    if (this.#ending.signal.aborted) return;
    const { code, message } = error;
    const epoch = this.#host.key.epoch;
    const text = encodeSync({ kind: 'refused', code, message: message.slice(0, 1_000), epoch });
    this.#ending.abort(error);
    this.#inbox.length = 0;
    this.#socket.send(text, () => this.end());
    this.#cancelTimer();
    this.#cancelTimer = this.#host.clock.after(HELLO_TIMEOUT_MS, () => this.end());
  }

  #receive(data: RawData, isBinary: boolean): void {
    if (this.#ending.signal.aborted) return;
    const bytes = Buffer.isBuffer(data) ? data : Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data);
    this.#inbox.push(isBinary ? bytes : bytes.toString());
    this.#inboxBytes += bytes.length;
    if (this.#inboxBytes > PAUSE_BYTES) this.#socket.pause();
    if (!this.#isPumping) void this.#pump();
  }

  /** Never rejects. */
  async #pump(): Promise<void> {
    this.#isPumping = true;
    for (let message = this.#inbox.shift(); message !== undefined; message = this.#inbox.shift()) {
      const bytes = Buffer.byteLength(message);
      this.#inboxBytes -= bytes;
      this.#doneBytes += bytes;
      try {
        await this.#handle(message);
      } catch (error) {
        const failure = toDumontError(error);
        if (this.#ending.signal.aborted) break;
        this.#host.log.warn({ event: 'sync-session-failed', err: failure }, 'a sync session ended with an error');
        this.refuse(failure);
        break;
      }
      if (this.#doneBytes - this.#toldBytes > PROGRESS_BYTES) this.#tell({ kind: 'progress', bytes: this.#doneBytes });
      if (this.#socket.isPaused && this.#inboxBytes < PAUSE_BYTES / 2) this.#socket.resume();
      await letOthersRun();
    }
    this.#isPumping = false;
  }

  async #handle(message: string | Buffer): Promise<void> {
    const objection = this.#host.objection();
    if (objection !== null) throw objection;
    if (typeof message !== 'string') {
      if (!this.#isGreeted) throw new DumontError('PROTOCOL', 'the first message is a hello');
      this.#takeChunk(message);
      return;
    }
    const decoded = decodeToStandby(message);
    if (this.#isGreeted === (decoded.kind === 'hello')) {
      throw new DumontError('PROTOCOL', 'a session begins with one hello');
    }
    await this.#obey(decoded);
  }

  async #obey(message: ToStandby): Promise<void> {
    const { folder } = this.#host;
    switch (message.kind) {
      case 'hello':
        this.#greet(message);
        return;
      case 'compare':
        this.#tell({ kind: 'buckets', hashes: folder.tree.bucketHashes() });
        return;
      case 'list':
        await this.#list(message.buckets);
        return;
      case 'rescan':
        await this.#host.rescan(this.#ending.signal);
        this.#tell({ kind: 'rescanned' });
        return;
      case 'stage':
        folder.openStage(message.stage);
        return;
      case 'copy':
        folder.copy(message.stage, message.chunks);
        return;
      case 'free':
        folder.freeStages(message.stages);
        return;
      case 'batch':
        this.#applyBatch(message);
        return;
    }
  }

  #greet({ version, workspaceId, epoch }: Extract<ToStandby, { kind: 'hello' }>): void {
    const { key, folder } = this.#host;
    if (version !== SYNC_PROTOCOL_VERSION) {
      throw new DumontError('UNSUPPORTED', `this standby speaks version ${SYNC_PROTOCOL_VERSION} of the sync protocol`);
    }
    if (workspaceId !== key.workspaceId || epoch !== key.epoch) {
      throw new DumontError('STALE_EPOCH', `this standby serves epoch ${key.epoch} of ${key.workspaceId}`);
    }
    this.#cancelTimer();
    this.#isGreeted = true;
    this.#host.greeted(this);
    const staged = folder.orphanStages().slice(0, MAX_SYNC_FILE_CHUNKS);
    const hash = folder.tree.hash();
    this.#tell({ kind: 'welcome', version: SYNC_PROTOCOL_VERSION, seq: this.#host.seq(), hash, staged });
  }

  #takeChunk(message: Buffer): void {
    const { chunk, frame } = readChunk(message);
    if (chunk.stage !== 0) {
      this.#host.folder.stage(chunk.stage).write(chunk.chunkId, this.#coder.decodeView(frame, chunk), chunk.offset);
      releaseWhole(message);
      return;
    }
    this.#poolBytes += chunk.rawLength;
    if (this.#poolBytes > MAX_POOL_BYTES) throw new DumontError('LIMIT', 'too many chunks came for one batch');
    const raw = this.#coder.decode(frame, chunk);
    this.#pool.set(chunk.chunkId, raw);
    if (raw.buffer === message.buffer) this.#frames.push(message);
    else releaseWhole(message);
  }

  #emptyPool(): void {
    for (const bytes of this.#pool.values()) releaseWhole(bytes);
    for (const frame of this.#frames) releaseWhole(frame);
    this.#frames.length = 0;
    this.#pool.clear();
    this.#poolBytes = 0;
  }

  #applyBatch({ seq, ops, hash }: Extract<ToStandby, { kind: 'batch' }>): void {
    const { folder } = this.#host;
    if (seq <= this.#host.seq()) throw new DumontError('PROTOCOL', `batch ${seq} comes after ${this.#host.seq()}`);
    const changed = new Set<string>();
    let doneSeq = this.#host.seq();
    try {
      folder.apply(ops, this.#pool, changed);
      doneSeq = seq;
    } finally {
      this.#host.remember(doneSeq, changed);
      this.#emptyPool();
    }
    const own = folder.tree.hash();
    if (own !== hash) throw new DumontError('CORRUPT', `after batch ${seq} the trees differ`, { retryable: true });
    this.#tell({ kind: 'ack', seq, hash: own, bytes: this.#doneBytes });
  }

  async #list(buckets: readonly number[]): Promise<void> {
    const { tree } = this.#host.folder;
    let entries: [string, SyncEntry][] = [];
    let bytes = 0;
    for (const path of tree.pathsIn(buckets)) {
      const entry = tree.get(path)?.entry;
      if (entry === undefined) continue;
      entries.push([path, entry]);
      bytes += ENTRY_BYTES + (entry.type === 'file' ? entry.content.chunks.length * CHUNK_BYTES : 0);
      if (entries.length < LIST_ENTRIES && bytes < LIST_BYTES) continue;
      await this.#send({ kind: 'entries', entries, isLast: false });
      this.#ending.signal.throwIfAborted();
      entries = [];
      bytes = 0;
    }
    await this.#send({ kind: 'entries', entries, isLast: true });
  }

  #tell(message: ToPrimary): void {
    if ('bytes' in message) this.#toldBytes = message.bytes;
    // A write that fails is followed by the socket's close.
    this.#socket.send(encodeSync(message), () => {});
  }

  #send(message: ToPrimary): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#socket.send(encodeSync(message), (error) => (error ? reject(error) : resolve()));
    });
  }
}

/** Frees what has its memory to itself: small messages that came together share theirs. */
function releaseWhole(bytes: Uint8Array): void {
  if (bytes.byteLength === bytes.buffer.byteLength) releaseBuffers([bytes]);
}
