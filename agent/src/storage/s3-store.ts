import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  type PutObjectCommandInput,
} from '@aws-sdk/client-s3';
import type { StorageGrant } from '@dumont/shared/protocol/storage-grant.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import {
  assertKey,
  assertObjectSize,
  assertPrefix,
  throwIfAborted,
  type CallOptions,
  type GetOptions,
  type ObjectInfo,
  type ObjectStore,
  type PutOptions,
} from './object-store.ts';
import { s3Failure, statusOf } from './s3-errors.ts';

export type S3Grant = Extract<StorageGrant, { kind: 's3' }>;

/** The SDK has no time limits of its own: a dead peer would hang a snapshot for ever. */
const TIMEOUTS = { connectionTimeout: 3_000, socketTimeout: 30_000, requestTimeout: 120_000 };
/** Above the parallelism of one snapshot and one restore together. */
const MAX_SOCKETS = 64;

/**
 * Objects in any S3-compatible service, one single PUT each with the body in memory (some services restrict multipart
 * uploads, and only a body in memory is signed and can be sent again). It never retries; wrap it in a RetryStore.
 */
export class S3Store implements ObjectStore, AsyncDisposable {
  readonly #client: S3Client;
  readonly #bucket: string;
  /** Turned off by the first answer saying that conditional writes are not implemented there. */
  #conditionalPut = true;

  constructor(grant: S3Grant) {
    this.#bucket = grant.bucket;
    this.#client = new S3Client({
      endpoint: grant.endpoint,
      region: grant.region,
      forcePathStyle: grant.forcePathStyle,
      credentials: {
        accessKeyId: grant.accessKeyId,
        secretAccessKey: grant.secretAccessKey,
        ...(grant.sessionToken === undefined ? {} : { sessionToken: grant.sessionToken }),
      },
      // Services other than AWS refuse or ignore the SDK's default checksums; every byte is verified by its BLAKE3 hash.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      maxAttempts: 1,
      requestHandler: {
        ...TIMEOUTS,
        throwOnRequestTimeout: true,
        httpAgent: { keepAlive: true, maxSockets: MAX_SOCKETS },
        httpsAgent: { keepAlive: true, maxSockets: MAX_SOCKETS },
      },
    });
  }

  async put(key: string, bytes: Uint8Array, options: PutOptions = {}): Promise<'stored' | 'exists'> {
    assertKey(key);
    assertObjectSize(key, bytes.length);
    const { ifAbsent = false, signal } = options;
    if (ifAbsent && !this.#conditionalPut && (await this.stat(key, { signal })) !== null) return 'exists';
    const conditional = ifAbsent && this.#conditionalPut;
    const body = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    const input: PutObjectCommandInput = { Bucket: this.#bucket, Key: key, Body: body };
    if (conditional) input.IfNoneMatch = '*';
    try {
      await this.#client.send(new PutObjectCommand(input), aborting(signal));
      return 'stored';
    } catch (error) {
      if (conditional && statusOf(error) === 412) return 'exists';
      if (conditional && statusOf(error) === 501) {
        this.#conditionalPut = false;
        return this.put(key, bytes, options);
      }
      throw s3Failure(error, `storing ${this.#where(key)}`, signal);
    }
  }

  async get(key: string, options: GetOptions = {}): Promise<Uint8Array> {
    assertKey(key);
    const { range, signal } = options;
    const input = { Bucket: this.#bucket, Key: key };
    try {
      const answer = await this.#client.send(
        new GetObjectCommand(
          range === undefined ? input : { ...input, Range: `bytes=${range.offset}-${range.offset + range.length - 1}` },
        ),
        aborting(signal),
      );
      if (answer.Body === undefined) throw new DumontError('UNAVAILABLE', `${this.#where(key)} came without a body`);
      const lengthBytes = answer.ContentLength;
      if (lengthBytes !== undefined && range === undefined) assertObjectSize(key, lengthBytes);
      if (range !== undefined && lengthBytes !== range.length) {
        (answer.Body as { destroy?: () => void }).destroy?.();
        throw new DumontError(
          'CORRUPT',
          `${this.#where(key)} gave ${lengthBytes} bytes for a range of ${range.length} at ${range.offset}`,
        );
      }
      const bytes = await answer.Body.transformToByteArray();
      if (lengthBytes !== undefined && bytes.length !== lengthBytes) {
        throw new DumontError('UNAVAILABLE', `the answer for ${this.#where(key)} was cut short`, { retryable: true });
      }
      return bytes;
    } catch (error) {
      if (statusOf(error) === 416) throw new DumontError('CORRUPT', `${this.#where(key)} ends before the range`);
      throw s3Failure(error, `reading ${this.#where(key)}`, signal);
    }
  }

  async stat(key: string, options: CallOptions = {}): Promise<{ readonly sizeBytes: number } | null> {
    assertKey(key);
    try {
      const answer = await this.#client.send(
        new HeadObjectCommand({ Bucket: this.#bucket, Key: key }),
        aborting(options.signal),
      );
      return { sizeBytes: answer.ContentLength ?? 0 };
    } catch (error) {
      if (statusOf(error) === 404) return null;
      throw s3Failure(error, `looking at ${this.#where(key)}`, options.signal);
    }
  }

  async *list(prefix: string, options: CallOptions = {}): AsyncIterable<ObjectInfo> {
    assertPrefix(prefix);
    let token: string | undefined;
    do {
      throwIfAborted(options.signal);
      const input = { Bucket: this.#bucket, Prefix: prefix };
      const page = await this.#client
        .send(
          new ListObjectsV2Command(token === undefined ? input : { ...input, ContinuationToken: token }),
          aborting(options.signal),
        )
        .catch((error: unknown) => {
          throw s3Failure(error, `listing ${this.#where(prefix)}`, options.signal);
        });
      for (const { Key: key, Size: sizeBytes, LastModified: modified } of page.Contents ?? []) {
        if (key !== undefined) yield { key, sizeBytes: sizeBytes ?? 0, modifiedMs: modified?.getTime() ?? 0 };
      }
      token = page.IsTruncated === true ? page.NextContinuationToken : undefined;
    } while (token !== undefined);
  }

  async delete(key: string, options: CallOptions = {}): Promise<void> {
    assertKey(key);
    try {
      await this.#client.send(new DeleteObjectCommand({ Bucket: this.#bucket, Key: key }), aborting(options.signal));
    } catch (error) {
      if (statusOf(error) === 404) return;
      throw s3Failure(error, `deleting ${this.#where(key)}`, options.signal);
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#client.destroy();
    return Promise.resolve();
  }

  #where(key: string): string {
    return `s3://${this.#bucket}/${key}`;
  }
}

function aborting(signal: AbortSignal | undefined): { abortSignal?: AbortSignal } {
  return signal === undefined ? {} : { abortSignal: signal };
}
