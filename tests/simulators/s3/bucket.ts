import { createHash, randomBytes } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Quirks } from './quirks.ts';

export interface S3Request {
  readonly method: string;
  readonly bucket: string;
  readonly key: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
  /** When its first byte came, and when its last did, Unix ms by the simulator's clock. */
  readonly begunMs: number;
  readonly nowMs: number;
}

export interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer;
}

export interface BucketOptions {
  readonly quirks: Quirks;
  readonly pageSize: number;
  /** How many listings pass before a new object shows up in one. */
  readonly listingLag: number;
}

interface Meta {
  readonly modifiedMs: number;
  readonly versionId: string;
  /** Listings still to come without it. */
  unseen: number;
}

const STATUS: Readonly<Record<string, number>> = {
  NoSuchKey: 404,
  NoSuchBucket: 404,
  ConditionalRequestConflict: 409,
  PreconditionFailed: 412,
  InvalidRange: 416,
  TooManyRequests: 429,
  NotImplemented: 501,
  MethodNotAllowed: 405,
  SlowDown: 503,
  InternalError: 500,
  XAmzContentSHA256Mismatch: 400,
  InvalidRequest: 400,
  ExpiredToken: 400,
};

/** The objects of one bucket and what a service does with them. */
export class Bucket {
  /** By key; changing it damages objects. */
  readonly objects = new Map<string, Buffer>();
  /** What deletes hid instead of freeing. */
  readonly hidden: Buffer[] = [];
  readonly #options: BucketOptions;
  readonly #meta = new Map<string, Meta>();

  constructor(options: BucketOptions) {
    this.#options = options;
  }

  /** Looks and writes in one turn of the loop, after the whole body is there: conditional writes are atomic. */
  handle(request: S3Request): Answer {
    const { method, key } = request;
    if (key === '') return method === 'GET' ? this.#list(request) : failure('MethodNotAllowed');
    const object = this.objects.get(key);
    switch (method) {
      case 'PUT':
        return this.#put(request, object);
      case 'GET':
      case 'HEAD':
        return object === undefined ? failure('NoSuchKey') : this.#read(request, object);
      case 'DELETE':
        return this.#delete(request, object);
      default:
        return failure('MethodNotAllowed');
    }
  }

  #put({ key, headers, body, begunMs, nowMs }: S3Request, object: Buffer | undefined): Answer {
    const { quirks, listingLag } = this.#options;
    if (headers['if-none-match'] === '*' && quirks.conditionalPut !== 'ignored') {
      if (quirks.conditionalPut === 'unsupported') return failure('NotImplemented');
      const isRace = (this.#meta.get(key)?.modifiedMs ?? 0) > begunMs;
      if (object !== undefined) {
        return failure(
          isRace && quirks.conditionalPut === 'conflicts' ? 'ConditionalRequestConflict' : 'PreconditionFailed',
        );
      }
    }
    if (object !== undefined && quirks.keepsVersions) this.hidden.push(object);
    this.objects.set(key, body);
    this.#meta.set(key, { modifiedMs: nowMs, versionId: randomBytes(16).toString('hex'), unseen: listingLag });
    return { status: 200, headers: { etag: etag(body), ...this.#versionHeader(key) } };
  }

  #delete({ key, query }: S3Request, object: Buffer | undefined): Answer {
    const versionId = query.get('versionId');
    if (versionId !== null && versionId !== this.#meta.get(key)?.versionId) return failure('NoSuchKey');
    if (object !== undefined && versionId === null && this.#options.quirks.keepsVersions) this.hidden.push(object);
    this.objects.delete(key);
    this.#meta.delete(key);
    return { status: 204 };
  }

  #read(request: S3Request, object: Buffer): Answer {
    const modified = new Date(this.#modifiedMs(request.key)).toUTCString();
    const headers = {
      etag: etag(object),
      'accept-ranges': 'bytes',
      'last-modified': modified,
      ...this.#versionHeader(request.key),
    };
    const match = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
    if (match === null) return { status: 200, headers, body: object };
    const start = Number(match[1]);
    const end = Math.min(match[2] === '' ? object.length - 1 : Number(match[2]), object.length - 1);
    if (start >= object.length || end < start) return failure('InvalidRange');
    const range = `bytes ${start}-${end}/${object.length}`;
    return { status: 206, headers: { ...headers, 'content-range': range }, body: object.subarray(start, end + 1) };
  }

  #list(request: S3Request): Answer {
    const prefix = request.query.get('prefix') ?? '';
    const token = request.query.get('continuation-token');
    const after = Buffer.from(token ?? '', 'base64url').toString();
    const found = [...this.objects.keys()].filter((key) => key.startsWith(prefix) && key > after).toSorted(byBytes);
    const keys = found.filter((key) => (this.#meta.get(key)?.unseen ?? 0) === 0);
    for (const meta of token === null ? this.#meta.values() : []) meta.unseen = Math.max(0, meta.unseen - 1);
    const page = keys.slice(0, this.#options.pageSize);
    const last = page.at(-1);
    const isTruncated = keys.length > page.length && last !== undefined;
    const contents = page.map(
      (key) =>
        `<Contents><Key>${escapeXml(key)}</Key><Size>${this.objects.get(key)?.length ?? 0}</Size>` +
        `<LastModified>${new Date(this.#modifiedMs(key)).toISOString()}</LastModified></Contents>`,
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

  /** Objects a test put there by hand are from the epoch. */
  #modifiedMs(key: string): number {
    return this.#meta.get(key)?.modifiedMs ?? 0;
  }

  #versionHeader(key: string): Readonly<Record<string, string>> {
    const versionId = this.#meta.get(key)?.versionId;
    return versionId === undefined || !this.#options.quirks.keepsVersions ? {} : { 'x-amz-version-id': versionId };
  }
}

/** The answer to a request that fails with one of the service's codes. */
export function failure(code: string, headers: Readonly<Record<string, string>> = {}): Answer {
  const answer = xml(STATUS[code] ?? 403, `<Error><Code>${code}</Code><Message>simulated ${code}</Message></Error>`);
  return { ...answer, headers: { ...answer.headers, ...headers } };
}

function xml(status: number, text: string): Answer {
  const body = Buffer.from(`<?xml version="1.0" encoding="UTF-8"?>${text}`);
  return { status, headers: { 'content-type': 'application/xml' }, body };
}

function byBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

function etag(body: Buffer): string {
  return `"${createHash('md5').update(body).digest('hex')}"`;
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
