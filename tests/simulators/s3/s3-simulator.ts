import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { systemClock, type Clock } from '@dumont/shared/util/clock.ts';
import { Bucket, failure, type Answer, type S3Request } from './bucket.ts';
import { FAULT_CODES, FaultScript } from './faults.ts';
import { MODES, type Quirks, type SimulatorMode } from './quirks.ts';
import { RateCounter, SlowLink } from './slow-link.ts';
import { assumeRole, b2Api, B2_API_PATH, r2Credentials, R2_API_PATH, stsError, type ApiCall } from './key-apis.ts';
import { KeyBook } from './key-book.ts';
import type { Wish } from './policy.ts';
import { checkSignature, type Credentials } from './sigv4.ts';
import { closeServer, listenOnLoopback, portOf } from '../loopback-server.ts';

export interface S3SimulatorOptions extends Credentials {
  readonly buckets: readonly string[];
  /** Whose ways it has; `minio`, which has none of its own, when absent. */
  readonly mode?: SimulatorMode;
  /** Single ways changed. */
  readonly quirks?: Partial<Quirks>;
  /** Longest page of a listing; small ones exercise paging. */
  readonly pageSize?: number;
  readonly listingLag?: number;
  /** Requests that are answered AccessDenied, as `METHOD`, or `LIST` for listings. */
  readonly denied?: readonly string[];
  /** More requests at a time are answered 503 SlowDown. */
  readonly maxInFlight?: number;
  /** Bodies of all requests and answers share this. */
  readonly linkBytesPerSecond?: number;
  /** Time each request takes beside its bodies. */
  readonly latencyMs?: number;
  readonly clock?: Clock;
  /** How far the service's clock is ahead. */
  readonly clockOffsetMs?: number;
}

export interface S3Simulator extends AsyncDisposable {
  readonly endpoint: string;
  readonly faults: FaultScript;
  /** Requests answered so far, as `METHOD key`. */
  readonly requests: readonly string[];
  /** Most requests that ran at a time. */
  readonly peakInFlight: number;
  /** Keys made by its STS, R2 or B2 API. */
  readonly keys: KeyBook;
  /** The APIs that make keys answer 503 while it is true. */
  keyApisAreDown: boolean;
  /** B2's authorizations; emptying it ends them. */
  readonly authorized: Set<string>;
  /** What a bucket holds; changing it damages objects. */
  objects(bucket: string): Map<string, Buffer>;
  /** Objects of a bucket that nobody sees any more but the bill. */
  hidden(bucket: string): readonly Buffer[];
}

/** An S3 server in memory over real HTTP: path style, SigV4 verified, one object per PUT, with scripted faults. */
export async function startS3Simulator(options: S3SimulatorOptions): Promise<S3Simulator> {
  const service = new SimulatedService(options);
  const server = createServer((incoming, response) => {
    void service.serve(incoming, response).catch((error: unknown) => response.destroy(error as Error));
  });
  await listenOnLoopback(server);
  return {
    endpoint: `http://127.0.0.1:${portOf(server)}`,
    faults: service.faults,
    requests: service.requests,
    keys: service.keys,
    authorized: service.authorized,
    get keyApisAreDown() {
      return service.keyApisAreDown;
    },
    set keyApisAreDown(isDown: boolean) {
      service.keyApisAreDown = isDown;
    },
    get peakInFlight() {
      return service.peakInFlight;
    },
    objects: (name) => service.bucket(name).objects,
    hidden: (name) => service.bucket(name).hidden,
    [Symbol.asyncDispose]: () => closeServer(server),
  };
}

class SimulatedService {
  readonly faults = new FaultScript();
  readonly requests: string[] = [];
  peakInFlight = 0;
  keyApisAreDown = false;
  readonly authorized = new Set<string>();
  readonly keys: KeyBook;
  readonly #options: S3SimulatorOptions;
  readonly #quirks: Quirks;
  readonly #clock: Clock;
  readonly #buckets: ReadonlyMap<string, Bucket>;
  readonly #link: SlowLink | null;
  readonly #rate = new RateCounter();
  readonly #keyRate = new RateCounter();
  #inFlight = 0;

  constructor(options: S3SimulatorOptions) {
    this.#options = options;
    this.keys = new KeyBook(options);
    this.#quirks = { ...MODES[options.mode ?? 'minio'], ...options.quirks };
    this.#clock = options.clock ?? systemClock;
    const { pageSize = 1_000, listingLag = 0, linkBytesPerSecond: rate } = options;
    const bucketOptions = { quirks: this.#quirks, pageSize, listingLag };
    this.#buckets = new Map(options.buckets.map((name) => [name, new Bucket(bucketOptions)]));
    this.#link = rate === undefined ? null : new SlowLink(rate, this.#clock);
  }

  bucket(name: string): Bucket {
    const found = this.#buckets.get(name);
    if (found === undefined) throw new Error(`the simulator has no bucket ${name}`);
    return found;
  }

  async serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    this.#inFlight += 1;
    this.peakInFlight = Math.max(this.peakInFlight, this.#inFlight);
    try {
      await this.#serve(incoming, response);
    } finally {
      this.#inFlight -= 1;
    }
  }

  async #serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const begunMs = this.#nowMs();
    const parts: Buffer[] = [];
    for await (const part of incoming) parts.push(part as Buffer);
    const body = Buffer.concat(parts);
    const isTooMany = this.#inFlight > (this.#options.maxInFlight ?? Infinity);
    await this.#clock.sleep(this.#options.latencyMs ?? 0);
    await this.#link?.pass(body.length);
    const url = new URL(incoming.url ?? '/', 'http://localhost');
    const [bucket = '', ...rest] = url.pathname.slice(1).split('/').map(decodeURIComponent);
    const { method = '', headers } = incoming;
    const times = { begunMs, nowMs: this.#nowMs() };
    const request = { method, bucket, key: rest.join('/'), query: url.searchParams, headers, body, ...times };
    this.requests.push(`${method} ${request.key}`);
    response.sendDate = false;
    response.setHeader('date', new Date(times.nowMs).toUTCString());

    const madeKeys = this.#keyApi(incoming, body, times.nowMs);
    if (madeKeys !== undefined) {
      send(response, method, madeKeys);
      return;
    }
    const fault = this.faults.take(method, request.key);
    if (fault?.kind === 'reset') {
      incoming.socket.destroy();
      return;
    }
    const code = isTooMany ? 'SlowDown' : fault === undefined ? undefined : FAULT_CODES[fault.kind];
    if (code !== undefined) {
      const wait = fault?.retryAfterSeconds;
      send(response, method, failure(code, wait === undefined ? {} : { 'retry-after': String(wait) }));
      return;
    }
    const objection = this.#accessObjection(incoming, request) ?? this.#refusal(request);
    const answer = objection === undefined ? this.#answer(request) : failure(objection);
    await this.#link?.pass(answer.body?.length ?? 0);
    if (fault?.kind === 'lost-answer') incoming.socket.destroy();
    else if (fault?.kind === 'truncate') truncate(response, answer);
    else send(response, method, answer);
  }

  #accessObjection(incoming: IncomingMessage, request: S3Request): string | undefined {
    const { nowMs, body } = request;
    const found = checkSignature(incoming, body, { find: (keyId) => this.keys.find(keyId), nowMs });
    return found.kind === 'objection' ? found.code : this.keys.objection(found.keyId, wishOf(request), nowMs);
  }

  /** The answer of an API that makes keys; undefined for a request to a bucket. */
  #keyApi(incoming: IncomingMessage, body: Buffer, nowMs: number): Answer | undefined {
    const path = new URL(incoming.url ?? '/', 'http://localhost').pathname;
    const isSts = incoming.method === 'POST' && path === '/';
    if (!isSts && !path.startsWith(`${R2_API_PATH}/`) && !path.startsWith(B2_API_PATH)) return undefined;
    if (this.keyApisAreDown) return stsError(503, 'ServiceUnavailable', 'down');
    if (isSts) {
      const found = checkSignature(incoming, body, { find: (keyId) => this.keys.find(keyId), nowMs });
      const isTheirs = found.kind === 'signed' && this.keys.isAccount(found.keyId);
      return isTheirs
        ? assumeRole(this.keys, body.toString(), nowMs)
        : stsError(403, 'AccessDenied', 'not the account');
    }
    const call: ApiCall = {
      path,
      authorization: incoming.headers.authorization ?? '',
      body: body.toString(),
      nowMs,
      origin: `http://${incoming.headers.host}`,
      buckets: [...this.#buckets.keys()],
    };
    if (path.startsWith(B2_API_PATH)) {
      return b2Api(this.keys, call, { account: this.#options, authorized: this.authorized });
    }
    return r2Credentials(this.keys, call);
  }

  #answer(request: S3Request): Answer {
    return this.#buckets.get(request.bucket)?.handle(request) ?? failure('NoSuchBucket');
  }

  /** What this service does not take from anybody. */
  #refusal({ method, key, headers, nowMs }: S3Request): string | undefined {
    const { requestsPerSecond, writesPerKeyPerSecond, needsSignedPayload, refusesChecksums } = this.#quirks;
    const operation = method === 'GET' && key === '' ? 'LIST' : method;
    if (this.#options.denied?.includes(operation) === true) return 'AccessDenied';
    if (!this.#rate.allows('', requestsPerSecond, nowMs)) return 'SlowDown';
    if (method === 'PUT' && !this.#keyRate.allows(key, writesPerKeyPerSecond, nowMs)) return 'TooManyRequests';
    if (needsSignedPayload && headers['x-amz-content-sha256'] === 'UNSIGNED-PAYLOAD') return 'InvalidRequest';
    const hasChecksum = Object.keys(headers).some((name) => name.startsWith('x-amz-checksum-'));
    return refusesChecksums && hasChecksum ? 'InvalidRequest' : undefined;
  }

  #nowMs(): number {
    return this.#clock.nowMs() + (this.#options.clockOffsetMs ?? 0);
  }
}

function wishOf({ method, bucket, key, query }: S3Request): Wish {
  const isListing = method === 'GET' && key === '';
  const deletes = query.has('versionId') ? 's3:DeleteObjectVersion' : 's3:DeleteObject';
  const actions: Readonly<Record<string, string>> = { PUT: 's3:PutObject', GET: 's3:GetObject', HEAD: 's3:GetObject' };
  const action = isListing ? 's3:ListBucket' : (actions[method] ?? (method === 'DELETE' ? deletes : 'unknown'));
  return { action, bucket, key, listedPrefix: isListing ? (query.get('prefix') ?? '') : null };
}

function send(response: ServerResponse, method: string, answer: Answer): void {
  const body = answer.body ?? Buffer.alloc(0);
  response.writeHead(answer.status, { ...answer.headers, 'content-length': String(body.length) });
  response.end(method === 'HEAD' ? undefined : body);
}

/** Promises the whole body, sends half of it and closes the connection. */
function truncate(response: ServerResponse, answer: Answer): void {
  const body = answer.body ?? Buffer.alloc(0);
  response.writeHead(answer.status, { ...answer.headers, 'content-length': String(body.length) });
  response.write(body.subarray(0, Math.floor(body.length / 2)), () => response.destroy());
}
