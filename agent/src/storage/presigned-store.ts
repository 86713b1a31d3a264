import type { StoreRequest } from '@dumont/shared/protocol/signed-request.ts';
import { storageProfile, type BucketProviderName } from '@dumont/shared/storage/storage-profile.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import {
  assertKey,
  assertObjectSize,
  assertPrefix,
  throwIfAborted,
  type CallOptions,
  type GetOptions,
  type ObjectInfo,
  type ObjectStat,
  type ObjectStore,
  type PutOptions,
} from './object-store.ts';
import { s3Failure, statusOf } from './s3-errors.ts';
import { elementText, parseListing } from './s3-xml.ts';
import { UrlDesk, type SignRequests } from './url-desk.ts';

/** Time for a request beside the time for its body, and the slowest link served: as with keys of one's own. */
const REQUEST_TIMEOUT_MS = 120_000;
const SLOWEST_BYTES_PER_MS = 65.5;

const MD5_ETAG = /^"?([0-9a-f]{32})"?$/;

/**
 * Objects in any S3-compatible service, without any key to it: every request is signed by the control plane. It never
 * repeats a failed call, and it cannot delete. Conditional puts are left to services whose profile is trusted with them;
 * else it looks before it writes.
 */
export class PresignedStore implements ObjectStore {
  readonly #desk: UrlDesk;
  readonly #hasConditionalPut: boolean;

  constructor(profile: BucketProviderName, sign: SignRequests) {
    this.#desk = new UrlDesk(sign);
    this.#hasConditionalPut = storageProfile(profile).conditionalPut === 'yes';
  }

  async put(key: string, bytes: Uint8Array, options: PutOptions = {}): Promise<'stored' | 'exists'> {
    assertKey(key);
    assertObjectSize(key, bytes.length);
    const { ifAbsent = false, signal } = options;
    const isConditional = ifAbsent && this.#hasConditionalPut;
    if (ifAbsent && !isConditional && (await this.stat(key, { signal })) !== null) return 'exists';
    const request = { method: 'PUT', key, ifAbsent: isConditional } as const;
    const body = Buffer.from(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.length);
    const headers = isConditional ? { 'if-none-match': '*' } : {};
    try {
      const answer = await this.#send(request, { headers, body, signal });
      await answer.arrayBuffer();
      return 'stored';
    } catch (error) {
      if (isConditional && statusOf(error) === 412) return 'exists';
      throw s3Failure(error, `storing ${key}`, signal);
    }
  }

  async get(key: string, options: GetOptions = {}): Promise<Uint8Array> {
    assertKey(key);
    const { range, signal } = options;
    const headers = range === undefined ? {} : { range: `bytes=${range.offset}-${range.offset + range.length - 1}` };
    try {
      const answer = await this.#send({ method: 'GET', key }, { headers, signal, lengthBytes: range?.length });
      const promised = Number(answer.headers.get('content-length') ?? Number.NaN);
      if (range === undefined && !Number.isNaN(promised)) assertObjectSize(key, promised);
      if (range !== undefined && promised !== range.length) {
        await answer.body?.cancel();
        throw new DumontError(
          'CORRUPT',
          `${key} gave ${promised} bytes for a range of ${range.length} at ${range.offset}`,
        );
      }
      return new Uint8Array(await answer.arrayBuffer());
    } catch (error) {
      if (statusOf(error) === 416) throw new DumontError('CORRUPT', `${key} ends before the range`);
      throw s3Failure(connectionCause(error), `reading ${key}`, signal);
    }
  }

  async stat(key: string, options: CallOptions = {}): Promise<ObjectStat | null> {
    assertKey(key);
    try {
      const { headers } = await this.#send({ method: 'HEAD', key }, { signal: options.signal });
      const sizeBytes = Number(headers.get('content-length') ?? 0);
      const md5 = MD5_ETAG.exec(headers.get('etag') ?? '')?.[1];
      return md5 === undefined ? { sizeBytes } : { sizeBytes, md5 };
    } catch (error) {
      if (statusOf(error) === 404) return null;
      throw s3Failure(error, `looking at ${key}`, options.signal);
    }
  }

  async *list(prefix: string, options: CallOptions = {}): AsyncIterable<ObjectInfo> {
    assertPrefix(prefix);
    const { signal } = options;
    let continuationToken: string | undefined;
    do {
      const request = { method: 'LIST', prefix, ...(continuationToken === undefined ? {} : { continuationToken }) };
      const page = await this.#page(request as Extract<StoreRequest, { method: 'LIST' }>, signal);
      yield* page.objects;
      continuationToken = page.next;
    } while (continuationToken !== undefined);
  }

  delete(key: string): Promise<void> {
    return Promise.reject(
      new DumontError('UNAUTHORIZED', `deleting ${key}: this machine may not delete`, {
        hint: 'Prune with the keys of the bucket, on another computer.',
      }),
    );
  }

  async #page(request: StoreRequest & { readonly method: 'LIST' }, signal: AbortSignal | undefined) {
    try {
      return parseListing(await (await this.#send(request, { signal })).text());
    } catch (error) {
      throw s3Failure(connectionCause(error), `listing ${request.prefix}`, signal);
    }
  }

  /** @throws an error in the shape of the SDK's for every answer that is none of success */
  async #send(
    request: StoreRequest,
    options: {
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: Buffer<ArrayBuffer>;
      readonly lengthBytes?: number | undefined;
      readonly signal: AbortSignal | undefined;
    },
  ): Promise<Response> {
    const { headers = {}, body, signal } = options;
    throwIfAborted(signal);
    const url = await this.#desk.urlFor(request);
    throwIfAborted(signal);
    const bytes = body?.length ?? options.lengthBytes ?? 0;
    const deadline = AbortSignal.timeout(REQUEST_TIMEOUT_MS + Math.ceil(bytes / SLOWEST_BYTES_PER_MS));
    let answer: Response;
    try {
      answer = await fetch(url, {
        method: request.method === 'LIST' ? 'GET' : request.method,
        headers,
        ...(body === undefined ? {} : { body }),
        redirect: 'error',
        signal: signal === undefined ? deadline : AbortSignal.any([signal, deadline]),
      });
    } catch (error) {
      throw connectionCause(error);
    }
    if (answer.ok) return answer;
    throw refusalOf(answer, await answer.text().catch(() => ''));
  }
}

/** `fetch failed` says nothing; what the system said is its cause. */
function connectionCause(error: unknown): unknown {
  return error instanceof TypeError && error.cause instanceof Error ? error.cause : error;
}

/** An answer as the SDK throws it, so that one table tells what each means. */
function refusalOf(answer: Response, xml: string): Error {
  const { status } = answer;
  const code = elementText(xml, 'Code') ?? (status === 404 ? 'NotFound' : `Status${status}`);
  return Object.assign(new Error(elementText(xml, 'Message') ?? code), {
    name: code,
    $metadata: { httpStatusCode: status },
    $response: { headers: Object.fromEntries(answer.headers) },
  });
}
