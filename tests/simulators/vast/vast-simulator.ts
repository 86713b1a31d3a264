import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { tryParseJson } from '@dumont/shared/util/try-json.ts';
import { fastClock } from '../../world/fast-clock.ts';
import { makeTempFolder } from '../../world/temp-folder.ts';
import { Account } from './account.ts';
import type { Contract } from './contract.ts';
import { faultSchema, type Fault, type OUTAGES, type ParsedFault } from './faults.ts';
import { requireSsh } from './machine.ts';
import { Market } from './market.ts';
import { RateLimits } from './rate-limits.ts';
import { findRoute, refused, type ApiCall, type Reply, type World } from './routes.ts';
import { closeServer, listenOnLoopback, portOf } from '../loopback-server.ts';

export interface VastSimulatorOptions {
  /** 0, the default: the system chooses. */
  readonly port?: number;
  readonly apiKey?: string;
  /** The market's time runs so many times as fast: boots, prices, bills. */
  readonly speed?: number;
  /** Limits are so many times as generous; they are enforced in any case. */
  readonly limitSpeed?: number;
  readonly seed?: number;
  /** Every machine behaves until told otherwise. */
  readonly isCalm?: boolean;
  /** Prices move by the minute, and outbid. */
  readonly pricesMove?: boolean;
}

/** A running stand-in for Vast.ai. Disposing it ends every machine. */
export interface VastSimulator extends AsyncDisposable {
  readonly url: string;
  readonly apiKey: string;
  readonly market: Market;
  readonly account: Account;
  /** Every request, as `METHOD path`. */
  readonly requests: readonly string[];
  /** Classes of endpoints whose limit was not kept, once for each call. */
  readonly throttled: readonly string[];
  /** Makes something happen. */
  inflict(fault: Fault): void;
}

/** A minute of the market. */
const PRICE_PERIOD_MS = 60_000;

const KEY = 'a-key-of-the-simulator';

/** Vast.ai over real HTTP, whose machines are real: processes on this computer with an SSH server. */
export async function startVastSimulator(options: VastSimulatorOptions = {}): Promise<VastSimulator> {
  await requireSsh();
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await makeTempFolder());
  const service = new VastService(options, folder.path);
  stack.defer(() => service.end());
  const server = createServer((request, response) => {
    void service.serve(request, response).catch((error: unknown) => response.destroy(error as Error));
  });
  await listenOnLoopback(server, options.port);
  stack.defer(() => closeServer(server));
  const owned = stack.move();
  return {
    url: `http://127.0.0.1:${portOf(server)}`,
    apiKey: service.apiKey,
    market: service.market,
    account: service.account,
    requests: service.requests,
    throttled: service.limits.refused,
    inflict: (fault) => service.inflict(faultSchema.parse(fault)),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

class VastService {
  readonly apiKey: string;
  readonly market: Market;
  readonly account: Account;
  readonly limits: RateLimits;
  readonly requests: string[] = [];
  readonly #world: World;
  readonly #stopPrices: () => void;
  #outage: (typeof OUTAGES)[number] | null = null;
  #failure: unknown = null;

  constructor(options: VastSimulatorOptions, folder: string) {
    this.apiKey = options.apiKey ?? KEY;
    const clock = fastClock(options.speed ?? 1);
    const random = seededRandom(options.seed ?? 1);
    this.limits = new RateLimits(fastClock(options.limitSpeed ?? 1));
    this.market = new Market({ random, clock, isCalm: options.isCalm ?? false });
    this.account = new Account({
      market: this.market,
      clock,
      folder,
      onError: (error) => (this.#failure ??= error),
    });
    this.#world = { market: this.market, account: this.account, publicAddress: '127.0.0.1\n', logs: new Map() };
    this.#stopPrices = options.pricesMove === true ? this.#movePrices(clock) : () => {};
  }

  /** Ends every machine. @throws what went wrong in one, which nobody else has heard of */
  async end(): Promise<void> {
    this.#stopPrices();
    const contracts = [...this.account.contracts.values()];
    await Promise.all(contracts.map((contract) => this.account.destroy(contract)));
    if (this.#failure !== null) throw this.#failure;
  }

  async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', `http://${request.headers.host ?? 'localhost'}`);
    const path = url.pathname.replace(/\/+$/, '');
    const { method = 'GET' } = request;
    this.requests.push(`${method} ${path}`);
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const text = Buffer.concat(parts).toString();
    const body = text === '' ? {} : tryParseJson(text);
    if (path.startsWith('/simulator/')) {
      this.#control(path, body, response);
      return;
    }
    if (this.#outage !== null) {
      this.#fail(request, response, this.#outage);
      return;
    }
    if (typeof body !== 'object' || body === null) {
      send(response, refused(400, 'invalid_request', 'Invalid json body'));
      return;
    }
    const call = { method, path, query: url.searchParams, body: body as ApiCall['body'], origin: url.origin };
    const reply = await this.#answer(call, request);
    if (reply.isHeard === false) request.socket.destroy();
    else send(response, reply);
  }

  inflict(fault: ParsedFault): void {
    switch (fault.kind) {
      case 'behaviour':
        this.#ask(fault.offer).behaviour = fault.behaviour;
        return;
      case 'withdraw':
        this.#ask(fault.offer).isTaken = true;
        return;
      case 'price':
        this.#ask(fault.offer).minBid = fault.minBid;
        this.#settleBids();
        return;
      case 'next-orders':
        this.account.orderFaults.push(...Array.from({ length: fault.times }, () => fault.how));
        return;
      case 'visibility-lag':
        this.account.visibilityLagS = fault.seconds;
        return;
      case 'api-down':
        this.#outage = fault.how;
        return;
      case 'api-up':
        this.#outage = null;
        return;
      case 'credit':
        this.account.credit = fault.usd;
        return;
      case 'outbid':
      case 'resume':
      case 'offline':
      case 'online':
      case 'refuse-starts':
        inflictOn(this.#contract(fault.instance), fault);
    }
  }

  async #answer(call: ApiCall, { headers, socket }: IncomingMessage): Promise<Reply> {
    const found = findRoute(call);
    if (found === undefined) return refused(404, 'not_found', `no route ${call.method} ${call.path}`);
    const key = /^Bearer (.*)$/.exec(headers.authorization ?? '')?.[1] ?? call.query.get('api_key');
    const mayPass = key === this.apiKey || (found.route.isOpen === true && key === null);
    if (!mayPass) return refused(401, 'auth_error', 'Invalid user key');
    const { limit } = found.route;
    const objection = limit === undefined ? undefined : this.limits.objection(limit, `${key} ${socket.remoteAddress}`);
    if (objection !== undefined) return { status: 429, body: objection };
    return found.route.handle(this.#world, call, found.ids);
  }

  #fail(request: IncomingMessage, response: ServerResponse, how: (typeof OUTAGES)[number]): void {
    switch (how) {
      case 'reset':
        request.socket.destroy();
        return;
      case 'html-503':
        response.writeHead(503, { 'content-type': 'text/html' }).end('<html><h1>503 Service Unavailable</h1></html>');
        return;
      case 'json-500':
        send(response, refused(500, 'internal_error', 'Internal server error'));
        return;
      case 'throttled':
        send(response, { status: 429, body: 'API requests too frequent' });
    }
  }

  /** What the real service does not have: faults, and the files behind `result_url`. */
  #control(path: string, body: unknown, response: ServerResponse): void {
    const log = this.#world.logs.get(path.slice('/simulator/logs/'.length));
    if (log !== undefined) {
      send(response, { status: 200, body: log });
      return;
    }
    const fault = faultSchema.safeParse(body);
    if (!fault.success) {
      send(response, refused(400, 'invalid_args', fault.error.message));
      return;
    }
    try {
      this.inflict(fault.data);
      send(response, { status: 200, body: { success: true } });
    } catch (error) {
      send(response, refused(404, 'not_found', String(error)));
    }
  }

  #movePrices(clock: Clock): () => void {
    return clock.every(PRICE_PERIOD_MS, () => {
      this.market.movePrices();
      this.#settleBids();
    });
  }

  /** Who bids less than the lowest winning bid loses the machine, and gets it back when the price comes down. */
  #settleBids(): void {
    for (const contract of this.account.contracts.values()) {
      if (contract.bid !== null && contract.bid < contract.ask.minBid) contract.outbid({ resumes: false });
    }
  }

  #ask(id: number) {
    const ask = this.market.asks.get(id);
    if (ask === undefined) throw new Error(`the market has no offer ${id}`);
    return ask;
  }

  #contract(id: number): Contract {
    const contract = this.account.contracts.get(id);
    if (contract === undefined) throw new Error(`there is no instance ${id}`);
    return contract;
  }
}

function inflictOn(contract: Contract, fault: Extract<ParsedFault, { readonly instance: number }>): void {
  switch (fault.kind) {
    case 'outbid':
      contract.outbid({ resumes: fault.resumes });
      return;
    case 'resume':
      contract.resume();
      return;
    case 'offline':
      contract.goOffline();
      return;
    case 'online':
      contract.comeBack();
      return;
    case 'refuse-starts':
      contract.isRefusingStarts = true;
  }
}

/** JSON without a charset, as clients compare the header as a whole; text as such. */
function send(response: ServerResponse, { status, body }: Reply): void {
  const isText = typeof body === 'string';
  response.writeHead(status, { 'content-type': isText ? 'text/plain' : 'application/json' });
  response.end(isText ? body : JSON.stringify(body));
}
