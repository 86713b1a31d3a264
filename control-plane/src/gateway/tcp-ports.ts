import { createServer, type Server } from 'node:net';
import type { WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { Logger } from '@dumont/shared/node/logger.ts';
import { systemErrorCode } from '@dumont/shared/util/errors.ts';
import type { Database } from '../store/database.ts';
import type { GatewayRow } from '../store/gateways.ts';
import { claimPort } from '../store/gateways.ts';
import { KEEP_ALIVE_MS } from './gateway-limits.ts';
import type { TcpSessionParts } from './tcp-session.ts';
import { serveTcp } from './tcp-session.ts';

/** A workspace's own port that somebody else holds is tried again after this long. */
const RETRY_MS = 5_000;

export interface TcpPortsOptions extends TcpSessionParts {
  readonly db: Database;
  readonly log: Logger;
  readonly host: string;
  /** Both inclusive. */
  readonly range: { readonly first: number; readonly last: number };
}

/** The listeners of the SSH addresses, one per workspace. Disposing closes them; open connections are the sessions'. */
export class TcpPorts implements AsyncDisposable {
  readonly #options: TcpPortsOptions;
  readonly #servers = new Map<WorkspaceId, Server>();
  /** Not before this time, monotonic ms: their port was taken, or there was none left. */
  readonly #retryAtMs = new Map<WorkspaceId, number>();

  constructor(options: TcpPortsOptions) {
    this.#options = options;
  }

  /**
   * Listens for every workspace, on its own port where it has one, else on the first free one, which is its own from
   * then on. What cannot be opened now is tried again in a later call.
   */
  async sync(rows: readonly GatewayRow[]): Promise<void> {
    const { clock, log } = this.#options;
    const wanted = new Set(rows.map(({ workspaceId }) => workspaceId));
    for (const [workspaceId, server] of this.#servers) {
      if (wanted.has(workspaceId)) continue;
      this.#servers.delete(workspaceId);
      server.close();
    }
    const taken = new Set(rows.flatMap(({ port }) => (port === null ? [] : [port])));
    for (const { workspaceId, port } of rows) {
      if (this.#servers.has(workspaceId) || clock.monotonicMs() < (this.#retryAtMs.get(workspaceId) ?? 0)) continue;
      const server = port === null ? await this.#claim(workspaceId, taken) : await this.#listen(workspaceId, port);
      if (server !== null) {
        this.#servers.set(workspaceId, server);
        this.#retryAtMs.delete(workspaceId);
        continue;
      }
      if (!this.#retryAtMs.has(workspaceId)) {
        log.warn({ event: 'gateway.no-port', workspaceId, port }, 'no port for the SSH address of a workspace');
      }
      this.#retryAtMs.set(workspaceId, clock.monotonicMs() + RETRY_MS);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const servers = [...this.#servers.values()];
    this.#servers.clear();
    await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  }

  /** The port is held before it is written down: it is this workspace's only if it works. */
  async #claim(workspaceId: WorkspaceId, taken: Set<number>): Promise<Server | null> {
    const { range, db } = this.#options;
    for (let port = range.first; port <= range.last; port += 1) {
      if (taken.has(port)) continue;
      taken.add(port);
      const server = await this.#listen(workspaceId, port);
      if (server === null) continue;
      if (await claimPort(db, workspaceId, port)) return server;
      server.close();
    }
    return null;
  }

  /** Null when the port is in use or not ours to open. */
  async #listen(workspaceId: WorkspaceId, port: number): Promise<Server | null> {
    const { host } = this.#options;
    const server = createServer(
      {
        pauseOnConnect: true,
        allowHalfOpen: true,
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: KEEP_ALIVE_MS,
      },
      (socket) => void serveTcp(socket, workspaceId, this.#options),
    );
    const failure = await new Promise<Error | null>((resolve) => {
      server.once('error', resolve);
      server.listen({ port, host }, () => resolve(null));
    });
    if (failure === null) return server;
    const code = systemErrorCode(failure);
    if (code === 'EADDRINUSE' || code === 'EACCES') return null;
    throw failure;
  }
}
