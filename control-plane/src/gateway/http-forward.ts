import type { ClientRequest, IncomingMessage, ServerResponse } from 'node:http';
import { Agent, request as httpRequest } from 'node:http';
import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { systemErrorCode } from '@dumont/shared/util/errors.ts';
import type { Answer } from './answers.ts';
import type { GatewayLimits } from './gateway-limits.ts';
import { forwardedResponseHeaders } from './headers.ts';
import type { Target } from './routes.ts';

/** Idle connections kept to one machine: enough for a page's worth of requests. */
const MAX_IDLE_PER_MACHINE = 32;

/** Connections to machines that wait for the next request; one pool per machine, dropped with it. */
export class Pools implements Disposable {
  readonly #agents = new Map<InstanceId, Agent>();

  for(instanceId: InstanceId): Agent {
    const agent = this.#agents.get(instanceId) ?? new Agent({ keepAlive: true, maxFreeSockets: MAX_IDLE_PER_MACHINE });
    this.#agents.set(instanceId, agent);
    return agent;
  }

  /** Closes the connections to every machine but these. */
  keepOnly(instanceIds: ReadonlySet<InstanceId>): void {
    for (const [instanceId, agent] of this.#agents) {
      if (instanceIds.has(instanceId)) continue;
      this.#agents.delete(instanceId);
      agent.destroy();
    }
  }

  [Symbol.dispose](): void {
    this.keepOnly(new Set());
  }
}

/** One request as it goes to the workload. */
export interface Outgoing {
  readonly target: Target;
  readonly path: string;
  /** `[name, value, …]` */
  readonly headers: readonly string[];
  readonly prefix: string;
}

export interface ForwardParts {
  readonly pools: Pools;
  readonly clock: Clock;
  readonly limits: Pick<GatewayLimits, 'connectTimeoutMs'>;
}

/** What became of a request: `answered` also when the user left or the answer broke off. */
export type Forwarded = { readonly kind: 'answered' } | { readonly kind: 'unreachable' } | { readonly kind: 'garbled' };

/**
 * Sends a request on and streams the answer back, both bodies with back-pressure and without a limit on size or time.
 * Nothing was sent to the user when it resolves with another kind than `answered`. Never rejects. Aborting ends an
 * answer that has begun: an event stream in good order, for its client connects again by itself; any other abruptly,
 * for a shortened answer must not pass for a whole one.
 */
export async function forwardRequest(
  request: IncomingMessage,
  response: ServerResponse,
  outgoing: Outgoing,
  how: ForwardParts & { readonly signal: AbortSignal },
): Promise<Forwarded> {
  const hasBody = request.headers['transfer-encoding'] !== undefined || Number(request.headers['content-length']) > 0;
  const first = await attempt(request, response, outgoing, { ...how, hasBody, isFresh: hasBody });
  // An idle connection may be closed by the other side at the moment it is used; nothing was read of the request then.
  if (first !== 'stale') return { kind: first };
  const second = await attempt(request, response, outgoing, { ...how, hasBody, isFresh: true });
  return { kind: second === 'stale' ? 'unreachable' : second };
}

type Outcome = Forwarded['kind'] | 'stale';

function attempt(
  request: IncomingMessage,
  response: ServerResponse,
  { target, path, headers, prefix }: Outgoing,
  how: ForwardParts & { readonly signal: AbortSignal; readonly hasBody: boolean; readonly isFresh: boolean },
): Promise<Outcome> {
  const { pools, signal } = how;
  return new Promise((resolve) => {
    const upstream = httpRequest({
      host: target.address.host,
      port: target.address.port,
      method: request.method,
      path,
      headers,
      agent: how.isFresh ? false : pools.for(target.instanceId),
      setHost: false,
    });
    const onGone = () => upstream.destroy();
    const finish = (outcome: Outcome) => {
      response.off('close', onGone);
      signal.removeEventListener('abort', onGone);
      request.unpipe(upstream);
      resolve(outcome);
    };
    response.once('close', onGone);
    signal.addEventListener('abort', onGone, { once: true });
    limitConnecting(upstream, how);
    upstream.on('error', (error) => {
      if (response.headersSent || response.destroyed) return;
      const isStale = upstream.reusedSocket && systemErrorCode(error) === 'ECONNRESET' && !how.hasBody;
      finish(signal.aborted ? 'unreachable' : isStale ? 'stale' : isGarbled(error) ? 'garbled' : 'unreachable');
    });
    upstream.once('close', () => finish(response.headersSent || response.destroyed ? 'answered' : 'unreachable'));
    upstream.once('response', (answer) => {
      if (!beginAnswer(response, answer, prefix)) {
        upstream.destroy();
        finish('garbled');
        return;
      }
      relayAnswer(response, answer, signal);
    });
    if (how.hasBody) request.pipe(upstream);
    else upstream.end();
  });
}

/** False for headers that cannot be sent on. */
function beginAnswer(response: ServerResponse, answer: IncomingMessage, prefix: string): boolean {
  try {
    const headers = forwardedResponseHeaders(answer.rawHeaders, { prefix });
    response.writeHead(answer.statusCode ?? 502, answer.statusMessage ?? '', headers);
    // The first bytes of a stream may be long in coming.
    response.flushHeaders();
    return true;
  } catch {
    return false;
  }
}

function relayAnswer(response: ServerResponse, answer: IncomingMessage, signal: AbortSignal): void {
  const isEventStream = answer.headers['content-type']?.startsWith('text/event-stream') ?? false;
  answer.on('error', ignore);
  answer.once('close', () => {
    if (answer.complete || response.writableEnded) return;
    if (isEventStream && signal.aborted) response.end();
    else response.destroy();
  });
  answer.pipe(response);
}

function limitConnecting(upstream: ClientRequest, { clock, limits }: ForwardParts): void {
  upstream.once('socket', (socket) => {
    if (!socket.connecting) return;
    const cancel = clock.after(limits.connectTimeoutMs, () => upstream.destroy());
    socket.once('connect', cancel).once('close', cancel);
  });
}

function isGarbled(error: Error): boolean {
  return systemErrorCode(error)?.startsWith('HPE_') ?? false;
}

/** What a user is told of an answer that was none. */
export const GARBLED: Answer = {
  status: 502,
  code: 'PROTOCOL',
  detail: 'What the workload answered is not HTTP.',
  hint: 'The port in its policy (ports.http) may be one on which it speaks something else.',
};

function ignore(): void {}
