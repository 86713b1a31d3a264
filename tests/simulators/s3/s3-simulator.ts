import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { FaultScript } from './faults.ts';
import { signatureObjection, type Credentials } from './sigv4.ts';

export interface S3SimulatorOptions extends Credentials {
  readonly buckets: readonly string[];
  /** Longest page of a listing; small ones exercise paging. */
  readonly pageSize?: number;
  /** `unsupported` answers 501 to conditional writes, as Backblaze B2 does. */
  readonly conditionalPut?: 'supported' | 'unsupported';
}

export interface S3Simulator extends AsyncDisposable {
  readonly endpoint: string;
  readonly faults: FaultScript;
  /** Requests answered so far, as `METHOD key`. */
  readonly requests: readonly string[];
  /** What a bucket holds; changing it damages objects. */
  objects(bucket: string): Map<string, Buffer>;
}

interface Request {
  readonly method: string;
  readonly bucket: string;
  readonly key: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer;
}

const STATUS: Readonly<Record<string, number>> = {
  NoSuchKey: 404,
  NoSuchBucket: 404,
  PreconditionFailed: 412,
  InvalidRange: 416,
  NotImplemented: 501,
  MethodNotAllowed: 405,
  SlowDown: 503,
  InternalError: 500,
  XAmzContentSHA256Mismatch: 400,
};

/** An S3 server in memory over real HTTP: path style, SigV4 verified, one object per PUT, with scripted faults. */
export async function startS3Simulator(options: S3SimulatorOptions): Promise<S3Simulator> {
  const buckets = new Map(options.buckets.map((name) => [name, new Map<string, Buffer>()]));
  const faults = new FaultScript();
  const requests: string[] = [];
  const server = createServer((incoming, response) => {
    void serve(incoming, response).catch((error: unknown) => response.destroy(error as Error));
  });

  async function serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = [];
    for await (const part of incoming) parts.push(part as Buffer);
    const body = Buffer.concat(parts);
    const url = new URL(incoming.url ?? '/', 'http://localhost');
    const [bucket = '', ...rest] = url.pathname.slice(1).split('/').map(decodeURIComponent);
    const { method = '', headers } = incoming;
    const request = { method, bucket, key: rest.join('/'), query: url.searchParams, headers, body };
    requests.push(`${method} ${request.key}`);
    const fault = faults.take(method, request.key);
    if (fault === 'reset') {
      incoming.socket.destroy();
      return;
    }
    if (fault === 'slow-down' || fault === 'internal') {
      send(response, method, failure(fault === 'internal' ? 'InternalError' : 'SlowDown'));
      return;
    }
    const objection = signatureObjection(incoming, body, options);
    const answer = objection === undefined ? handle(request, buckets.get(bucket), options) : failure(objection);
    if (fault === 'lost-answer') incoming.socket.destroy();
    else if (fault === 'truncate') truncate(response, answer);
    else send(response, method, answer);
  }

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    faults,
    requests,
    objects(bucket) {
      const found = buckets.get(bucket);
      if (found === undefined) throw new Error(`the simulator has no bucket ${bucket}`);
      return found;
    },
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

/** Looks and writes in one turn of the loop, after the whole body is there: conditional writes are atomic. */
function handle(request: Request, bucket: Map<string, Buffer> | undefined, options: S3SimulatorOptions): Answer {
  if (bucket === undefined) return failure('NoSuchBucket');
  const { method, key, body } = request;
  if (key === '')
    return method === 'GET' ? list(request, bucket, options.pageSize ?? 1_000) : failure('MethodNotAllowed');
  const object = bucket.get(key);
  switch (method) {
    case 'PUT':
      if (request.headers['if-none-match'] === '*') {
        if (options.conditionalPut === 'unsupported') return failure('NotImplemented');
        if (object !== undefined) return failure('PreconditionFailed');
      }
      bucket.set(key, body);
      return { status: 200, headers: { etag: etag(body) } };
    case 'GET':
    case 'HEAD':
      return object === undefined ? failure('NoSuchKey') : read(request, object);
    case 'DELETE':
      bucket.delete(key);
      return { status: 204 };
    default:
      return failure('MethodNotAllowed');
  }
}

function read(request: Request, object: Buffer): Answer {
  const headers = { etag: etag(object), 'accept-ranges': 'bytes' };
  const match = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  if (match === null) return { status: 200, headers, body: object };
  const start = Number(match[1]);
  const end = Math.min(match[2] === '' ? object.length - 1 : Number(match[2]), object.length - 1);
  if (start >= object.length || end < start) return failure('InvalidRange');
  const range = `bytes ${start}-${end}/${object.length}`;
  return { status: 206, headers: { ...headers, 'content-range': range }, body: object.subarray(start, end + 1) };
}

function list(request: Request, bucket: Map<string, Buffer>, pageSize: number): Answer {
  const prefix = request.query.get('prefix') ?? '';
  const after = Buffer.from(request.query.get('continuation-token') ?? '', 'base64url').toString();
  const keys = [...bucket.keys()].filter((key) => key.startsWith(prefix) && key > after).toSorted(byBytes);
  const page = keys.slice(0, pageSize);
  const last = page.at(-1);
  const isTruncated = keys.length > page.length && last !== undefined;
  const contents = page.map(
    (key) => `<Contents><Key>${escapeXml(key)}</Key><Size>${bucket.get(key)?.length ?? 0}</Size></Contents>`,
  );
  const next = isTruncated
    ? `<NextContinuationToken>${Buffer.from(last).toString('base64url')}</NextContinuationToken>`
    : '';
  return xml(
    200,
    `<ListBucketResult><Name>${request.bucket}</Name><Prefix>${escapeXml(prefix)}</Prefix>` +
      `<KeyCount>${page.length}</KeyCount><IsTruncated>${isTruncated}</IsTruncated>${next}${contents.join('')}` +
      `</ListBucketResult>`,
  );
}

function byBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

function failure(code: string): Answer {
  return xml(STATUS[code] ?? 403, `<Error><Code>${code}</Code><Message>simulated ${code}</Message></Error>`);
}

function xml(status: number, text: string): Answer {
  const body = Buffer.from(`<?xml version="1.0" encoding="UTF-8"?>${text}`);
  return { status, headers: { 'content-type': 'application/xml' }, body };
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

function etag(body: Buffer): string {
  return `"${createHash('md5').update(body).digest('hex')}"`;
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
