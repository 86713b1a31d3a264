import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Logger } from '@dumont/shared/node/logger.ts';
import { CHUNK_SOCKET_PATH } from '@dumont/shared/protocol/chunk-serving.ts';
import { toDumontError } from '@dumont/shared/util/errors.ts';
import { WebSocketServer } from 'ws';
import { ChunkCoder } from '../snapshot/planes/chunk-coder.ts';
import { serverFor, type KeyedServer, type ReaderKey } from '../sync/secure-socket.ts';
import { ChunkHolder, type HeldFolder } from './chunk-holder.ts';
import { ServingSession } from './serving-session.ts';

/** Readers at a time: one machine restores, and the one it takes the place of may linger. */
const MAX_SESSIONS = 4;
/** Text messages of a reader: one request of a restore's largest job. */
const MAX_PAYLOAD_BYTES = 256 * 1024;

/**
 * Lets machines that restore read the chunks of a folder: on the port of the sync receiver while that listens, on its own
 * once it does not. Reading is all that its key is good for. Dispose it to stop.
 */
export class ChunkDoor implements AsyncDisposable {
  readonly #log: Logger;
  readonly #coder = new ChunkCoder({ secrets: null, effort: 'fast' });
  readonly #upgrader = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: MAX_PAYLOAD_BYTES,
  });
  readonly #sessions = new Set<ServingSession>();
  #key: ReaderKey | null = null;
  #holder: ChunkHolder | null = null;
  #own: KeyedServer | null = null;

  constructor({ log }: { readonly log: Logger }) {
    this.#log = log;
  }

  /** Of those who may read; null while nobody may. */
  get key(): ReaderKey | null {
    return this.#key;
  }

  /** From here on holders of this key may read, and nobody else; null: nobody. */
  admit(key: ReaderKey | null): void {
    if (key?.token === this.#key?.token && key?.workspaceId === this.#key?.workspaceId) return;
    this.#key = key;
    this.endSessions();
  }

  /** What is served from here on. */
  give(folder: HeldFolder): void {
    this.#holder = new ChunkHolder(folder);
  }

  /** Listens by itself, when it has something to serve and somebody to serve it to; idempotent. @throws {DumontError} IO */
  async listen(host: string, port: number): Promise<void> {
    if (this.#own !== null || this.#holder === null || this.#key === null) return;
    const keyed = serverFor({ sync: null, reader: () => this.#key });
    keyed.server.maxConnections = MAX_SESSIONS * 2;
    keyed.server.on('tlsClientError', (error) => {
      this.#log.warn({ event: 'chunk-stranger', code: error.message }, 'someone without the key tried to read chunks');
    });
    keyed.server.on('upgrade', (request, socket, head) => {
      if (keyed.roleOf(request.socket) === 'reader') this.upgrade(request, socket, head);
      else socket.destroy();
    });
    keyed.server.on('request', (_request, response) => response.writeHead(404).end());
    try {
      keyed.server.listen(port, host);
      await once(keyed.server, 'listening');
    } catch (error) {
      throw toDumontError(error, 'IO', `listening for readers on ${host}:${port}`);
    }
    this.#own = keyed;
    this.#log.info({ event: 'chunks-served', port }, 'chunks are served to who restores');
  }

  /** Gives its own port back; idempotent. */
  async stopListening(): Promise<void> {
    const server = this.#own?.server;
    this.#own = null;
    if (server === undefined) return;
    this.endSessions();
    const closed = once(server, 'close');
    server.close();
    server.closeAllConnections();
    await closed;
  }

  /** Takes a connection of somebody who proved to be a reader. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const holder = this.#holder;
    if (request.url !== CHUNK_SOCKET_PATH || holder === null || this.#sessions.size >= MAX_SESSIONS) {
      socket.destroy();
      return;
    }
    this.#upgrader.handleUpgrade(request, socket, head, (opened) => {
      const session = new ServingSession(opened, {
        holder,
        coder: this.#coder,
        onEnd: (reason) => {
          this.#sessions.delete(session);
          if (reason === null) return;
          this.#log.warn({ event: 'chunk-session-failed', err: reason }, 'a reader of chunks was sent away');
        },
      });
      this.#sessions.add(session);
    });
  }

  endSessions(): void {
    for (const session of this.#sessions) session.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#key = null;
    this.endSessions();
    await this.stopListening();
  }
}
