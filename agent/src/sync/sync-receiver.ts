import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Logger } from '@dumont/shared/node/logger.ts';
import { MAX_SYNC_TEXT_BYTES, SYNC_SOCKET_PATH } from '@dumont/shared/protocol/sync.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import type { Duplex } from 'node:stream';
import { WebSocketServer, type WebSocket } from 'ws';
import { mayChangeOwners } from '../restore/metadata.ts';
import type { ChunkDoor } from '../peer/chunk-door.ts';
import { DiskFlusher } from './disk-flusher.ts';
import { ContentReader } from './file-content.ts';
import { readFolder } from './read-folder.ts';
import { ReceiverSession, type SessionHost } from './receiver-session.ts';
import { serverFor, type KeyedServer, type SyncKey } from './secure-socket.ts';
import { StandbyFolder } from './standby-folder.ts';
import { SyncJournal } from './sync-journal.ts';

/** Handshakes and sessions at a time: one sender, and the one that replaces it. */
const MAX_CONNECTIONS = 8;

export interface SyncReceiverOptions {
  /** The folder to keep equal to the primary's; must exist. */
  readonly root: string;
  /** Where what the folder holds is remembered. */
  readonly stateDir: string;
  readonly key: SyncKey;
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
  /** Lets machines that restore read chunks of the folder on the same port; absent: nobody. */
  readonly door?: ChunkDoor | undefined;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * The standby's end of continuous sync: listens, and keeps a folder equal to that of whoever holds the key and an epoch that
 * is not over. Holds one session, the newest. Dispose it to stop; the folder is usable at any time.
 */
export class SyncReceiver implements AsyncDisposable {
  readonly #options: SyncReceiverOptions;
  readonly #journal: SyncJournal;
  readonly #folder: StandbyFolder;
  readonly #flusher: DiskFlusher;
  readonly #keyed: KeyedServer;
  readonly #upgrader: WebSocketServer;
  #session: ReceiverSession | null = null;
  #seq: number;
  #highestEpoch: number;
  /** When the last byte of the session came, monotonic; null before the first session. */
  #heardAtMs: number | null = null;

  /** Looks at the folder first: files that an earlier process wrote are known, all others are read. @throws {DumontError} IO, ABORTED */
  static async listen(options: SyncReceiverOptions, signal: AbortSignal): Promise<SyncReceiver> {
    const { root, stateDir, key } = options;
    const journal = new SyncJournal(join(stateDir, `${key.workspaceId}.sync`), root);
    const { nodes, seq, epoch } = journal.read();
    if (epoch > key.epoch) {
      throw new DumontError('STALE_EPOCH', `${root} was synchronized under epoch ${epoch}, this is ${key.epoch}`);
    }
    const owners = mayChangeOwners();
    const reader = new ContentReader(options.clock);
    const tree = await readFolder({ root, reader, owners, signal }, nodes);
    await journal.restart(tree, { seq, epoch: key.epoch });
    const folder = new StandbyFolder({ root, tree, owners });
    const receiver = new SyncReceiver(options, { journal, folder, seq });
    await receiver.#open();
    return receiver;
  }

  private constructor(
    options: SyncReceiverOptions,
    parts: { readonly journal: SyncJournal; readonly folder: StandbyFolder; readonly seq: number },
  ) {
    this.#options = options;
    this.#journal = parts.journal;
    this.#folder = parts.folder;
    this.#seq = parts.seq;
    this.#flusher = new DiskFlusher(options);
    this.#highestEpoch = options.key.epoch;
    this.#keyed = serverFor({ sync: options.key, reader: () => options.door?.key ?? null });
    this.#server.maxConnections = MAX_CONNECTIONS;
    this.#upgrader = new WebSocketServer({
      noServer: true,
      perMessageDeflate: false,
      maxPayload: MAX_SYNC_TEXT_BYTES,
    });
  }

  /** The port it listens on. */
  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /**
   * When the sender was heard last, ms on the monotonic clock, whatever it said; null before anybody was, and while what
   * came is not read because too much of it waits.
   */
  get heardAtMs(): number | null {
    return this.#session?.isListening === false ? null : this.#heardAtMs;
  }

  /** How far the folder is: the last batch that was carried out, and the hash of the tree after it. */
  get watermark(): { readonly seq: number; readonly hash: string } {
    return { seq: this.#seq, hash: this.#folder.tree.hash() };
  }

  /** The last batch that survives a crash of this machine, a few seconds behind; null while none is known to. */
  get durableSeq(): number | null {
    return this.#flusher.durableSeq;
  }

  /** From here on senders of lower epochs are refused, and one that is connected is cut off. */
  hearEpoch(epoch: number): void {
    this.#highestEpoch = Math.max(this.#highestEpoch, epoch);
    if (epoch > this.#options.key.epoch) this.#session?.refuse(this.#staleEpoch());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#session?.end();
    this.#options.door?.endSessions();
    const closed = this.#server.listening ? once(this.#server, 'close') : Promise.resolve();
    this.#server.close();
    this.#server.closeAllConnections();
    for (const socket of this.#upgrader.clients) socket.terminate();
    await closed;
    await this.#flusher[Symbol.asyncDispose]();
    this.#folder[Symbol.dispose]();
    this.#journal.close();
  }

  get #server(): KeyedServer['server'] {
    return this.#keyed.server;
  }

  async #open(): Promise<void> {
    const { host, port, log, key, door, root } = this.#options;
    door?.give({ root, tree: () => this.#folder.tree });
    this.#server.on('tlsClientError', (error) => {
      log.warn({ event: 'sync-stranger', code: toDumontError(error).message }, 'someone without the key tried to sync');
    });
    this.#server.on('upgrade', (request, socket, head) => {
      const role = this.#keyed.roleOf(request.socket);
      if (role === 'reader' && door !== undefined) door.upgrade(request, socket, head);
      else if (role !== 'sync' || request.url !== SYNC_SOCKET_PATH) socket.destroy();
      else this.#upgrader.handleUpgrade(request, socket, head, (opened) => this.#accept(opened, socket));
    });
    // Plain requests have nothing to ask here.
    this.#server.on('request', (_request, response) => response.writeHead(404).end());
    try {
      this.#server.listen(port, host);
      await once(this.#server, 'listening');
    } catch (error) {
      throw toDumontError(error, 'IO', `listening for sync on ${host}:${port}`);
    }
    log.info({ event: 'sync-listening', port: this.port, epoch: key.epoch }, 'listening for sync');
  }

  #accept(socket: WebSocket, raw: Duplex): void {
    const { key, clock, log, root } = this.#options;
    const owners = mayChangeOwners();
    const host: SessionHost = {
      key,
      clock,
      log,
      folder: this.#folder,
      objection: () => (this.#highestEpoch > key.epoch ? this.#staleEpoch() : null),
      greeted: (session) => {
        this.#session?.end();
        this.#session = session;
        this.#heardAtMs = clock.monotonicMs();
      },
      seq: () => this.#seq,
      remember: (seq, changed) => {
        this.#seq = seq;
        this.#journal.append(this.#folder.tree, changed, { seq, epoch: key.epoch });
        this.#flusher.wrote(seq);
      },
      rescan: async (signal) => {
        const reader = new ContentReader(clock);
        this.#folder.freeStages([]);
        this.#folder.replaceTree(await readFolder({ root, reader, owners, signal }, new Map()));
        await this.#journal.restart(this.#folder.tree, { seq: this.#seq, epoch: key.epoch });
      },
    };
    const accepted = new ReceiverSession(socket, host);
    // Not by messages: one of 16 MiB takes its time, and what comes of it meanwhile is a sign of life.
    raw.on('data', () => {
      if (this.#session === accepted) this.#heardAtMs = clock.monotonicMs();
    });
    accepted.start();
  }

  #staleEpoch(): DumontError {
    return new DumontError('STALE_EPOCH', `epoch ${this.#options.key.epoch} is over: this is ${this.#highestEpoch}`);
  }
}
