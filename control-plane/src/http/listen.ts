import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { DumontError, systemErrorCode } from '@dumont/shared/util/errors.ts';
import type { UpgradeHandler, UpgradeSource } from '../node/upgrade-source.ts';

/** An HTTP server that holds its port before there is anything to serve. Disposing it ends every connection. */
export interface Listener extends UpgradeSource, AsyncDisposable {
  readonly port: number;
  /** From now on requests go here; before, they are answered 503. */
  serve(handler: RequestListener): void;
}

/**
 * Takes the port first, so that a second control plane fails before it touches any data.
 * @throws {DumontError} CONFLICT when the port is taken, USAGE when the address cannot be used
 */
export async function listen(options: { readonly host: string; readonly port: number }): Promise<Listener> {
  let handler: RequestListener = (_request, response) => {
    response.writeHead(503, { 'Retry-After': '1', 'Content-Type': 'text/plain' }).end('starting\n');
  };
  const server = createServer(TIMEOUTS, (request, response) => handler(request, response));
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(listenFailure(error, options)));
    server.listen(options.port, options.host, resolve);
  });
  const upgrades = new Upgrades(server);
  return {
    port: (server.address() as AddressInfo).port,
    serve: (next) => {
      handler = next;
    },
    onUpgrade: (handle) => upgrades.add(handle),
    [Symbol.asyncDispose]: async () => {
      const closed = closeServer(server);
      upgrades.endAll();
      await closed;
    },
  };
}

/** The server waits for these connections when it closes, but does not end them by itself. */
class Upgrades {
  readonly #handlers: UpgradeHandler[] = [];
  readonly #sockets = new Set<Duplex>();

  constructor(server: Server) {
    server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
      if (this.#handlers.some((handle) => handle(request, socket, head))) return;
      socket.on('error', () => socket.destroy());
      socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n', () => socket.destroy());
    });
  }

  add(handle: UpgradeHandler): () => void {
    this.#handlers.push(handle);
    return () => void this.#handlers.splice(this.#handlers.indexOf(handle), 1);
  }

  endAll(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}

/**
 * Who sends a request's headers drop by drop is cut off. Its body may take as long as it takes: users upload data sets
 * through the gateway.
 */
const TIMEOUTS = { headersTimeout: 15_000, requestTimeout: 0, connectionsCheckingInterval: 5_000 };

async function closeServer(server: Server): Promise<void> {
  if (!server.listening) return;
  const closed = Promise.withResolvers<void>();
  server.close(() => closed.resolve());
  server.closeAllConnections();
  await closed.promise;
}

function listenFailure(error: unknown, { host, port }: { readonly host: string; readonly port: number }): DumontError {
  switch (systemErrorCode(error)) {
    case 'EADDRINUSE':
      return new DumontError('CONFLICT', `port ${port} on ${host} is in use`, {
        field: 'DUMONT_PORT',
        hint: 'Stop the process that holds it (is a control plane running already?), or set DUMONT_PORT to another port.',
        cause: error,
      });
    case 'EACCES':
      return new DumontError('USAGE', `port ${port} may not be opened by this user`, {
        field: 'DUMONT_PORT',
        hint: 'Choose a port above 1023.',
        cause: error,
      });
    default:
      return new DumontError('USAGE', `cannot listen on ${host}:${port}: ${String(error)}`, {
        field: 'DUMONT_HOST',
        hint: 'DUMONT_HOST must be an address of this computer.',
        cause: error,
      });
  }
}
