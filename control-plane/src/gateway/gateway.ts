import { randomBytes } from 'node:crypto';
import type { RequestListener } from 'node:http';
import type { UpgradeSource } from '../node/upgrade-source.ts';
import type { InstanceId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Bell } from '@dumont/shared/util/bell.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { ProviderRegistry } from '../providers/provider.ts';
import type { Database } from '../store/database.ts';
import { appendEvent } from '../store/events.ts';
import type { GatewayRow } from '../store/gateways.ts';
import {
  deleteUnownedGateways,
  insertGateway,
  listGateways,
  listWithoutGateway,
  recordTarget,
} from '../store/gateways.ts';
import { listReadyIds } from '../store/instances.ts';
import { awaitFirstAnswer } from './first-answer.ts';
import type { GatewayLimits } from './gateway-limits.ts';
import { GATEWAY_LIMITS } from './gateway-limits.ts';
import { Pools } from './http-forward.ts';
import { HttpGateway } from './http-gateway.ts';
import { EndpointBook } from './machine-endpoints.ts';
import { Routes } from './routes.ts';
import { Sessions } from './sessions.ts';
import { TcpPorts } from './tcp-ports.ts';

export interface GatewayOptions {
  readonly db: Database;
  readonly providers: ProviderRegistry;
  readonly clock: Clock;
  readonly log: Logger;
  /** Rings after a commit that changed who is primary: what makes users follow within milliseconds. */
  readonly changed: Bell;
  /** Called after each commit that appended events. */
  readonly onChange: () => void;
  readonly apiToken: string;
  /** Address the SSH ports are opened on. */
  readonly host: string;
  readonly ports: { readonly first: number; readonly last: number };
  readonly domain: string | undefined;
  readonly protocol: 'http' | 'https';
  readonly limits?: Partial<GatewayLimits>;
}

/** How often commits of other replicas are looked for; the embedded database has none, there it is for new machines. */
const POLL_MS = { postgres: 200, pglite: 1_000 } as const;
/** After a failed look at the database. */
const RETRY_MS = 500;
const SECRET_BYTES = 32;

/**
 * The user's fixed addresses: a TCP port and an HTTP address per workspace, which lead to whichever machine holds the
 * workspace's lease. Follows every commit: what is open to a machine that lost the lease is ended, what arrives later
 * goes to the new one. Spec: control-plane/docs/GATEWAY.md.
 */
export class Gateway implements AsyncDisposable {
  readonly #options: GatewayOptions;
  readonly #limits: GatewayLimits;
  readonly #book: EndpointBook;
  readonly #routes: Routes;
  readonly #sessions: Sessions;
  readonly #pools = new Pools();
  readonly #tcp: TcpPorts;
  readonly #http: HttpGateway;
  readonly #stopped = new AbortController();
  #detach = () => {};
  /** Connections ended since users were last pointed somewhere. */
  readonly #endedCounts = new Map<WorkspaceId, number>();
  /** Ends the wait for the first answer of a machine that is primary no more. */
  readonly #waits = new Map<WorkspaceId, AbortController>();
  readonly #background = new Set<Promise<void>>();
  #following: Promise<void> | undefined;

  constructor(options: GatewayOptions) {
    this.#options = options;
    const limits = { ...GATEWAY_LIMITS, ...options.limits };
    this.#limits = limits;
    this.#book = new EndpointBook(options);
    const routes = new Routes(this.#book);
    const sessions = new Sessions(limits);
    this.#routes = routes;
    this.#sessions = sessions;
    this.#tcp = new TcpPorts({ ...options, routes, sessions, limits, range: options.ports });
    this.#http = new HttpGateway({ ...options, routes, sessions, limits, pools: this.#pools });
  }

  /** Opens the addresses of every workspace and follows from then on. @throws when the database cannot be read */
  async start(): Promise<void> {
    await this.#refresh();
    this.#following = this.#follow();
  }

  /** Serves the HTTP addresses on this server; what is for nobody's workspace goes to `next`. */
  handle(next: RequestListener): RequestListener {
    return (request, response) => {
      if (!this.#http.request(request, response)) next(request, response);
    };
  }

  /** Serves upgrades of the HTTP addresses on this server; others are left alone. */
  attach(source: UpgradeSource): void {
    this.#detach = source.onUpgrade((request, socket, head) => this.#http.upgrade(request, socket, head));
  }

  /** Looks for new workspaces and moves now. */
  nudge(): void {
    this.#options.changed.ring();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#detach();
    this.#stopped.abort();
    await this.#following;
    await Promise.all(this.#background);
    this.#sessions.endAll();
    await this.#tcp[Symbol.asyncDispose]();
    this.#pools[Symbol.dispose]();
  }

  async #follow(): Promise<void> {
    const { changed, clock, log, db } = this.#options;
    const { signal } = this.#stopped;
    let waitMs: number = POLL_MS[db.flavour];
    while (!signal.aborted) {
      // Taken before the look: a change during it rings for the next one.
      const news = changed.wait({ clock, atMostMs: waitMs, signal }).catch(ignore);
      try {
        await this.#refresh();
        waitMs = POLL_MS[db.flavour];
      } catch (error) {
        waitMs = RETRY_MS;
        if (!signal.aborted) log.warn({ event: 'gateway.refresh', err: error }, 'gateway cannot read its workspaces');
      }
      await news;
    }
  }

  /** Makes everything as the database has it. Moves come first: users wait for them. */
  async #refresh(): Promise<void> {
    const { db, log } = this.#options;
    const rows = await listGateways(db);
    this.#apply(rows);
    await this.#recordTargets(rows);
    for (const instanceId of await listReadyIds(db)) void this.#book.locate(instanceId);
    await deleteUnownedGateways(db);
    const newcomers = await listWithoutGateway(db);
    for (const workspaceId of newcomers) {
      await insertGateway(db, workspaceId, randomBytes(SECRET_BYTES).toString('base64url'));
      log.debug({ event: 'gateway.added', workspaceId }, 'workspace has addresses');
    }
    const all = newcomers.length === 0 ? rows : await listGateways(db);
    if (newcomers.length > 0) this.#apply(all);
    await this.#tcp.sync(all);
  }

  /** Without a wait inside: from here on no new connection goes to a machine that lost its lease. */
  #apply(rows: readonly GatewayRow[]): void {
    for (const { row } of this.#routes.replace(rows)) {
      const { workspaceId, primaryInstanceId } = row;
      this.#waits.get(workspaceId)?.abort();
      this.#waits.delete(workspaceId);
      const ended = this.#sessions.endOthers(workspaceId, primaryInstanceId);
      this.#endedCounts.set(workspaceId, (this.#endedCounts.get(workspaceId) ?? 0) + ended);
    }
    const primaries = rows.flatMap(({ primaryInstanceId }) => (primaryInstanceId === null ? [] : [primaryInstanceId]));
    this.#pools.keepOnly(new Set(primaries));
  }

  /** Tells of each move once: the row remembers, across restarts and replicas. */
  async #recordTargets(rows: readonly GatewayRow[]): Promise<void> {
    for (const row of rows) {
      const { workspaceId, primaryInstanceId } = row;
      if (primaryInstanceId === null || primaryInstanceId === row.targetInstanceId) continue;
      if (!(await this.#recordMove(row, primaryInstanceId))) continue;
      const wait = new AbortController();
      this.#waits.set(workspaceId, wait);
      const work = this.#recordAnswer(row, primaryInstanceId, AbortSignal.any([wait.signal, this.#stopped.signal]))
        .catch((error: unknown) => {
          this.#options.log.warn({ event: 'gateway.answer', workspaceId, err: error }, 'first answer not recorded');
        })
        .finally(() => this.#background.delete(work));
      this.#background.add(work);
    }
  }

  async #recordMove(row: GatewayRow, to: InstanceId): Promise<boolean> {
    const { db, clock, onChange } = this.#options;
    const { workspaceId, epoch, targetInstanceId: from } = row;
    const endedConnections = this.#endedCounts.get(workspaceId) ?? 0;
    const isNews = await db.transaction(async (tx) => {
      if (!(await recordTarget(tx, workspaceId, { epoch, instanceId: to }))) return false;
      const data = { from, to, epoch, endedConnections };
      await appendEvent(tx, { type: 'gateway.moved', atMs: clock.nowMs(), workspaceId, instanceId: to, data });
      return true;
    });
    this.#endedCounts.delete(workspaceId);
    if (isNews) onChange();
    return isNews;
  }

  async #recordAnswer({ workspaceId, epoch, ports }: GatewayRow, to: InstanceId, signal: AbortSignal): Promise<void> {
    const { db, clock, onChange } = this.#options;
    const service = ports.http === undefined ? 'ssh' : 'http';
    const how = { routes: this.#routes, clock, limits: this.#limits, signal };
    if (!(await awaitFirstAnswer(workspaceId, service, how))) return;
    const data = { epoch, service };
    await appendEvent(db, { type: 'gateway.answered', atMs: clock.nowMs(), workspaceId, instanceId: to, data });
    onChange();
  }
}

function ignore(): void {}
