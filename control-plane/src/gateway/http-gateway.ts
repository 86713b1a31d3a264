import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { Database } from '../store/database.ts';
import type { GatewayRow } from '../store/gateways.ts';
import type { Answer } from './answers.ts';
import { sendAnswer, sendAnswerRaw } from './answers.ts';
import type { GatewayLimits } from './gateway-limits.ts';
import { KEEP_ALIVE_MS } from './gateway-limits.ts';
import { takeTokenFromPath, TOKEN_COOKIE, TOKEN_HEADER, tokenInCookies, verifyToken } from './gateway-token.ts';
import { forwardedRequestHeaders, hasLooped } from './headers.ts';
import type { Outgoing, Pools } from './http-forward.ts';
import { forwardRequest, GARBLED } from './http-forward.ts';
import { Link } from './link.ts';
import type { RequestTarget } from './request-target.ts';
import { readTarget } from './request-target.ts';
import type { Routes, Target } from './routes.ts';
import type { Session, Sessions } from './sessions.ts';
import { forwardUpgrade, type Upgrading } from './upgrade-forward.ts';
import { waitingAnswer } from './waiting.ts';
import { FrameTracker, serviceRestartFrame } from './websocket-frames.ts';

export interface HttpGatewayOptions {
  readonly db: Database;
  readonly routes: Routes;
  readonly sessions: Sessions;
  readonly pools: Pools;
  readonly clock: Clock;
  readonly log: Logger;
  readonly limits: GatewayLimits;
  /** The control plane's own, which goes to no workload. */
  readonly apiToken: string;
  readonly domain: string | undefined;
  /** How users reach the control plane, where something in front of it speaks TLS. */
  readonly protocol: 'http' | 'https';
}

type WorkspaceTarget = Extract<RequestTarget, { kind: 'workspace' }>;

/** What of a request may go on: to which workspace, with what. */
type Admission =
  | { readonly kind: 'admitted'; readonly row: GatewayRow; readonly target: WorkspaceTarget }
  | { readonly kind: 'answer'; readonly answer: Answer }
  /** The token moves from the link into a cookie. */
  | { readonly kind: 'redirect'; readonly location: string; readonly cookie: string | null };

/** Serves the HTTP addresses of workspaces on the control plane's own server. */
export class HttpGateway {
  readonly #options: HttpGatewayOptions;

  constructor(options: HttpGatewayOptions) {
    this.#options = options;
  }

  /** Takes a request that is for a workspace. @returns false for one that is not, untouched */
  request(request: IncomingMessage, response: ServerResponse): boolean {
    const target = this.#read(request);
    if (target.kind === 'elsewhere') return false;
    response.on('error', ignore);
    request.on('error', ignore);
    this.#serve(request, response, target).catch((error: unknown) => {
      this.#options.log.error({ event: 'gateway.failed', err: error }, 'gateway request failed');
      response.destroy();
    });
    return true;
  }

  /** Takes an upgrade that is for a workspace. @returns false for one that is not, untouched */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): boolean {
    const target = this.#read(request);
    if (target.kind === 'elsewhere') return false;
    socket.on('error', ignore);
    this.#serveUpgrade({ request, socket, head }, target).catch((error: unknown) => {
      this.#options.log.error({ event: 'gateway.failed', err: error }, 'gateway upgrade failed');
      socket.destroy();
    });
    return true;
  }

  #read(request: IncomingMessage): RequestTarget {
    return readTarget(request.url ?? '', { host: request.headers.host, domain: this.#options.domain });
  }

  async #serve(request: IncomingMessage, response: ServerResponse, read: RequestTarget): Promise<void> {
    const admission = this.#admit(request, read);
    if (admission.kind === 'answer') {
      sendAnswer(request, response, admission.answer);
      return;
    }
    if (admission.kind === 'redirect') {
      const cookie = admission.cookie === null ? {} : { 'Set-Cookie': admission.cookie };
      const headers = { Location: admission.location, 'Cache-Control': 'no-store', 'Referrer-Policy': 'no-referrer' };
      response.writeHead(307, { ...headers, ...cookie }).end();
      return;
    }
    const { row } = admission;
    const session = this.#options.sessions.open(row.workspaceId);
    if (session === null) {
      sendAnswer(request, response, TOO_MANY);
      return;
    }
    try {
      const answer = await this.#forward(request, response, admission, session);
      if (answer !== null && !response.headersSent && !response.destroyed) sendAnswer(request, response, answer);
    } finally {
      session.close();
    }
  }

  /** @returns what the gateway itself has to say; null when the workload answered */
  async #forward(
    request: IncomingMessage,
    response: ServerResponse,
    { row, target }: Extract<Admission, { kind: 'admitted' }>,
    session: Session,
  ): Promise<Answer | null> {
    const { routes } = this.#options;
    const to = await routes.target(row.workspaceId, 'http');
    if (to === null) return this.#waiting(row);
    const moved = new AbortController();
    session.serve(to.instanceId, () => moved.abort());
    const outgoing = this.#outgoing(request, target, to);
    const { kind } = await forwardRequest(request, response, outgoing, { ...this.#options, signal: moved.signal });
    if (kind === 'answered') return null;
    if (kind === 'garbled') return GARBLED;
    if (!moved.signal.aborted) routes.doubt(to);
    return this.#waiting(row);
  }

  async #serveUpgrade(upgrading: Upgrading, read: RequestTarget): Promise<void> {
    const { request, socket } = upgrading;
    const { sessions, clock, limits } = this.#options;
    const admission = this.#admit(request, read);
    if (admission.kind !== 'admitted') {
      sendAnswerRaw(request, socket, admission.kind === 'answer' ? admission.answer : UNAUTHORIZED);
      return;
    }
    const { row, target } = admission;
    if (!isSameOrigin(request)) {
      sendAnswerRaw(request, socket, FOREIGN_ORIGIN);
      return;
    }
    const session = sessions.open(row.workspaceId);
    if (session === null) {
      sendAnswerRaw(request, socket, TOO_MANY);
      return;
    }
    try {
      const to = await this.#options.routes.target(row.workspaceId, 'http');
      const moved = new AbortController();
      if (to !== null) session.serve(to.instanceId, () => moved.abort());
      const how = { clock, limits, signal: moved.signal };
      const outcome =
        to === null ? UNREACHABLE : await forwardUpgrade(upgrading, this.#outgoing(request, target, to), how);
      if (outcome.kind === 'unreachable') sendAnswerRaw(request, socket, await this.#waiting(row));
      if (outcome.kind !== 'joined' || to === null) return;
      const link = this.#join(socket, outcome);
      session.serve(to.instanceId, link.end);
      if (moved.signal.aborted) link.end();
      await link.closed;
    } finally {
      session.close();
    }
  }

  #join(user: Duplex, { machine, isWebSocket }: { readonly machine: Duplex; readonly isWebSocket: boolean }) {
    const { clock, limits } = this.#options;
    if ('setKeepAlive' in user) (user as Socket).setKeepAlive(true, KEEP_ALIVE_MS).setNoDelay(true);
    const frames = new FrameTracker();
    if (isWebSocket) machine.on('data', (bytes: Buffer) => frames.push(bytes));
    const link = new Link({ user, machine }, { clock, limits });
    const farewell = () => (isWebSocket && frames.isBetweenFrames ? serviceRestartFrame() : null);
    return { closed: link.closed, end: () => link.hangUp(farewell) };
  }

  /** Decides whether a request may go to its workspace. An unknown workspace answers like one that is not the caller's. */
  #admit(request: IncomingMessage, read: RequestTarget): Admission {
    if (read.kind === 'slash') return { kind: 'redirect', location: read.location, cookie: null };
    if (read.kind !== 'workspace') {
      const detail = `This is no workspace's address: ${read.kind === 'bad' ? read.reason : 'unknown'}.`;
      return { kind: 'answer', answer: { status: 400, code: 'USAGE', detail } };
    }
    if (hasLooped(request.headers.via)) return { kind: 'answer', answer: LOOPED };
    const { routes, clock } = this.#options;
    const row = read.by === 'host' ? routes.findByHostLabel(read.name) : routes.find(read.name);
    if (row === undefined) return { kind: 'answer', answer: UNAUTHORIZED };
    const expected = { workspaceId: row.workspaceId, secret: row.secret, nowMs: clock.nowMs() };
    const fromPath = takeTokenFromPath(read.path);
    const path = fromPath?.rest ?? read.path;
    if (fromPath !== null) {
      const untilMs = verifyToken(fromPath.token, expected);
      if (untilMs !== null && (request.method === 'GET' || request.method === 'HEAD')) {
        const cookie = this.#cookie(fromPath.token, read, untilMs - expected.nowMs);
        // A path that begins with two slashes would be read as another host's name.
        return { kind: 'redirect', location: (read.prefix + path).replace(/^\/{2,}/, '/'), cookie };
      }
    }
    const header = request.headers[TOKEN_HEADER];
    const token = typeof header === 'string' ? header : tokenInCookies(request.headers.cookie);
    const isKnown = token !== undefined && verifyToken(token, expected) !== null;
    if (!row.ports.public && !isKnown) return { kind: 'answer', answer: UNAUTHORIZED };
    return { kind: 'admitted', row, target: { ...read, path } };
  }

  #cookie(token: string, { prefix }: WorkspaceTarget, validForMs: number): string {
    const secure = this.#options.protocol === 'https' ? '; Secure' : '';
    const age = Math.floor(validForMs / 1_000);
    return `${TOKEN_COOKIE}=${token}; Path=${prefix}/; Max-Age=${age}; HttpOnly; SameSite=Lax${secure}`;
  }

  #outgoing(request: IncomingMessage, { path, prefix }: WorkspaceTarget, target: Target): Outgoing {
    const { apiToken, protocol } = this.#options;
    const remoteAddress = request.socket.remoteAddress ?? 'unknown';
    const headers = forwardedRequestHeaders(request.rawHeaders, { remoteAddress, protocol, prefix, apiToken });
    return { target, path, prefix, headers };
  }

  /** Read afresh: the workspace may have moved on since the request came. */
  #waiting({ workspaceId, ...old }: GatewayRow): Promise<Answer> {
    const { db, routes, clock } = this.#options;
    return waitingAnswer(db, routes.find(workspaceId) ?? { workspaceId, ...old }, clock.nowMs());
  }
}

/**
 * Browsers let any page open a WebSocket and send the cookie of its address along; they name the page's origin, which
 * must then be ours. Programs name none.
 */
function isSameOrigin({ headers }: IncomingMessage): boolean {
  const { origin, host } = headers;
  if (origin === undefined || headers[TOKEN_HEADER] !== undefined) return true;
  return URL.canParse(origin) && new URL(origin).host === host?.toLowerCase();
}

const UNREACHABLE = { kind: 'unreachable' } as const;

const UNAUTHORIZED: Answer = {
  status: 401,
  code: 'UNAUTHORIZED',
  detail: 'This workspace does not exist, or you have no token for it.',
  hint: `Make one with POST /api/v1/workspaces/<workspace>/gateway-token and open the link it gives, or send it as ${TOKEN_HEADER}.`,
};
const FOREIGN_ORIGIN: Answer = {
  status: 401,
  code: 'UNAUTHORIZED',
  detail: 'A page of another origin may not open this WebSocket.',
};
const TOO_MANY: Answer = {
  status: 503,
  code: 'LIMIT',
  detail: 'Too many connections to this workspace at once.',
  retryAfterS: 5,
};
const LOOPED: Answer = { status: 508, code: 'USAGE', detail: 'The request came back to the gateway it went through.' };

function ignore(): void {}
