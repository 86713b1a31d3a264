import { once } from 'node:events';
import { createServer as createHttpServer, type RequestListener, type Server as HttpServer } from 'node:http';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { listen } from '@dumont/control-plane/http/listen.ts';
import { GatewayAddresses } from '@dumont/control-plane/gateway/addresses.ts';
import { Gateway } from '@dumont/control-plane/gateway/gateway.ts';
import type { GatewayLimits } from '@dumont/control-plane/gateway/gateway-limits.ts';
import type { MachineAddress } from '@dumont/control-plane/providers/provider.ts';
import type { Database } from '@dumont/control-plane/store/database.ts';
import { insertInstance, setProviderRef } from '@dumont/control-plane/store/instances.ts';
import {
  fencePrimary,
  findWorkspace,
  insertWorkspace,
  promotePrimary,
} from '@dumont/control-plane/store/workspaces.ts';
import type { InstanceId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { workspacePolicySchema } from '@dumont/shared/model/policy.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { Bell } from '@dumont/shared/util/bell.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { eventually } from '../../../world/eventually.ts';
import { MemoryProvider } from '../../../world/memory-provider.ts';
import { someOffer } from '../../../world/rows.ts';

export const API_TOKEN = 'the-api-token-0123456789';
export const DOMAIN = 'apps.test';
const FIRST_PORT = 28_000;

/** The real gateway on real sockets and a real database; who is primary, and what its machine serves, is the test's. */
export class GatewayWorld implements AsyncDisposable {
  readonly db: Database;
  readonly url: string;
  readonly addresses: GatewayAddresses;
  readonly #provider = new MemoryProvider();
  readonly #changed: Bell;
  readonly #stack: AsyncDisposableStack;

  private constructor(parts: { db: Database; url: string; changed: Bell; stack: AsyncDisposableStack }) {
    this.db = parts.db;
    this.url = parts.url;
    this.#changed = parts.changed;
    this.#stack = parts.stack;
    const { db, url: publicUrl } = parts;
    this.addresses = new GatewayAddresses({ db, clock: systemClock, publicUrl, domain: undefined });
  }

  static async start(db: Database, limits: Partial<GatewayLimits> = {}): Promise<GatewayWorld> {
    const changed = new Bell();
    const stack = new AsyncDisposableStack();
    const server = stack.use(await listen({ host: '127.0.0.1', port: 0 }));
    const url = `http://127.0.0.1:${server.port}`;
    const world = new GatewayWorld({ db, url, changed, stack });
    const gateway = new Gateway({
      db,
      providers: new Map([['memory', world.#provider]]),
      clock: systemClock,
      log: createLogger('gateway-test', 'silent'),
      changed,
      onChange: () => {},
      apiToken: API_TOKEN,
      host: '127.0.0.1',
      ports: { first: FIRST_PORT, last: FIRST_PORT + 200 },
      domain: DOMAIN,
      protocol: 'http',
      limits,
    });
    stack.use(gateway);
    await gateway.start();
    server.serve(gateway.handle((_request, response) => void response.end('the control plane itself')));
    gateway.attach(server);
    return world;
  }

  /** A workspace without a machine; its addresses work when this resolves. */
  async workspace(name: string, ports: { http?: number; public?: boolean } = { http: 80, public: true }) {
    const id = newId('workspace');
    await insertWorkspace(this.db, { id, name, policy: workspacePolicySchema.parse({ ports }), atMs: 1 });
    this.#changed.ring();
    const port = await eventually('it has a port', async () => {
      const row = must(await findWorkspace(this.db, id), 'just written');
      return (await this.addresses.of([row])).get(id)?.ssh?.port;
    });
    return { id, name, port, http: `${this.url}/w/${name}/` };
  }

  /** A machine that serves SSH and HTTP (as port 80) at these addresses. */
  async machine(
    workspaceId: WorkspaceId,
    at: { readonly ssh?: MachineAddress; readonly http?: MachineAddress },
  ): Promise<InstanceId> {
    const id = newId('instance');
    const offer = someOffer({ provider: 'memory' });
    const row = { id, workspaceId, operationId: null, role: 'gpu', tokenHash: 'hash', offer, atMs: 1 } as const;
    await insertInstance(this.db, row);
    await setProviderRef(this.db, id, id);
    this.#provider.place(id, id);
    const machine = must(this.#provider.machines.get(id), 'just placed');
    const ports = new Map(at.http === undefined ? [] : [[80, at.http]]);
    this.#provider.machines.set(id, { ...machine, ssh: at.ssh ?? null, ports });
    return id;
  }

  /** Commits: this machine is primary, whoever was before is fenced. Resolves when the gateway has followed. */
  async promote(workspaceId: WorkspaceId, instanceId: InstanceId | null): Promise<void> {
    const { primaryInstanceId } = must(await findWorkspace(this.db, workspaceId), 'it exists');
    if (primaryInstanceId !== null) await fencePrimary(this.db, workspaceId, primaryInstanceId);
    const { epoch } = must(await findWorkspace(this.db, workspaceId), 'it exists');
    if (instanceId !== null) await promotePrimary(this.db, workspaceId, instanceId, epoch);
    this.#changed.ring();
    if (instanceId === null) return;
    await eventually('the gateway follows', async () => {
      const rows = await this.db.query('select target_instance_id from gateways where workspace_id = $1', [
        workspaceId,
      ]);
      return rows[0]?.['target_instance_id'] === instanceId;
    });
  }

  async token(workspaceId: WorkspaceId, validForMs = 60_000): Promise<string> {
    const row = must(await findWorkspace(this.db, workspaceId), 'it exists');
    return (await this.addresses.createToken(row, { validForMs, revoke: false })).token;
  }

  /** A TCP service on a free port. */
  async tcp(serve: (socket: Socket) => void): Promise<MachineAddress> {
    const sockets = new Set<Socket>();
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.once('close', () => sockets.delete(socket));
      serve(socket);
    });
    return this.#listen(server, () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
  }

  async http(serve: RequestListener): Promise<MachineAddress> {
    const server = createHttpServer(serve);
    return this.#listen(server, () => closeHttp(server));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack[Symbol.asyncDispose]();
  }

  async #listen(server: Server, close: () => void | Promise<void>): Promise<MachineAddress> {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    this.#stack.defer(close);
    return { host: '127.0.0.1', port: (server.address() as AddressInfo).port };
  }
}

/** A user's connection, from beginning to end. */
export function talk(port: number): { readonly socket: Socket; readonly all: Promise<string> } {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const all = (async () => {
    let text = '';
    for await (const bytes of socket) text += String(bytes);
    socket.destroy();
    return text;
  })();
  return { socket, all };
}

async function closeHttp(server: HttpServer): Promise<void> {
  server.closeAllConnections();
  server.close();
  await Promise.resolve();
}
