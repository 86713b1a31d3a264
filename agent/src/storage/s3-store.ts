import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type S3Client,
  type PutObjectCommandInput,
} from '@aws-sdk/client-s3';
import type { BucketGrant } from '@dumont/shared/protocol/storage-grant.ts';
import {
  providerOfEndpoint,
  storageProfile,
  type ConditionalPut,
  type StorageProfile,
} from '@dumont/shared/storage/storage-profile.ts';
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
import type { HeldGrant } from './held-grant.ts';
import { makeS3Client } from './s3-client.ts';
import { providerCodeOf, s3Failure, statusOf } from './s3-errors.ts';

export interface S3StoreOptions {
  /** Instead of what the profile says. */
  readonly conditionalPut?: ConditionalPut;
  /** Instead of what the profile says, whatever the endpoint's protocol. */
  readonly unsignedPayload?: boolean;
  /** Hears the service's clock with every answer, Unix ms in whole seconds. */
  readonly onServerTime?: (serverMs: number) => void;
  /** Keys that may be renewed; absent: those of the grant, for good. */
  readonly held?: HeldGrant;
}

/** Time for a request beside the time for its body. */
const REQUEST_TIMEOUT_MS = 120_000;
/** The slowest link we serve, for one of many simultaneous requests, bytes per ms: 64 KiB a second. */
const SLOWEST_BYTES_PER_MS = 65.5;

const MD5_ETAG = /^"?([0-9a-f]{32})"?$/;

/**
 * Objects in any S3-compatible service, one single PUT each with the body in memory (some services restrict multipart
 * uploads, and only a body in memory can be sent again). It never retries a failed call; wrap it in a RetryStore.
 *
 * A conditional put is left to the service only where its profile says that it refuses, or once it was seen refusing;
 * else the store looks before it writes.
 */
export class S3Store implements ObjectStore, AsyncDisposable {
  readonly #client: S3Client;
  readonly #bucket: string;
  readonly #profile: StorageProfile;
  #conditionalPut: ConditionalPut;

  constructor(grant: BucketGrant, options: S3StoreOptions = {}) {
    this.#bucket = grant.bucket;
    this.#profile = profileOfGrant(grant);
    this.#conditionalPut = options.conditionalPut ?? this.#profile.conditionalPut;
    const isTls = grant.endpoint.startsWith('https:');
    this.#client = makeS3Client(grant, {
      held: options.held ?? { current: grant },
      unsignedPayload: options.unsignedPayload ?? (isTls && this.#profile.unsignedPayload),
      ...(options.onServerTime === undefined ? {} : { onServerTime: options.onServerTime }),
    });
  }

  /** What this service has shown so far. */
  get conditionalPut(): ConditionalPut {
    return this.#conditionalPut;
  }

  async put(key: string, bytes: Uint8Array, options: PutOptions = {}): Promise<'stored' | 'exists'> {
    assertKey(key);
    assertObjectSize(key, bytes.length);
    const { ifAbsent = false, signal } = options;
    const trust = this.#conditionalPut;
    if (ifAbsent && trust !== 'yes' && (await this.stat(key, { signal })) !== null) return 'exists';
    const isConditional = ifAbsent && trust !== 'no';
    const body = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    const input: PutObjectCommandInput = { Bucket: this.#bucket, Key: key, Body: body };
    if (isConditional) input.IfNoneMatch = '*';
    const command = new PutObjectCommand(input);
    try {
      await this.#despiteSkew(() => this.#client.send(command, callOptions(signal, bytes.length)));
      return 'stored';
    } catch (error) {
      if (isConditional && statusOf(error) === 412) {
        if (trust === 'unproven') this.#conditionalPut = 'yes';
        return 'exists';
      }
      if (isConditional && statusOf(error) === 501) {
        this.#conditionalPut = 'no';
        return this.put(key, bytes, options);
      }
      throw s3Failure(error, `storing ${this.#where(key)}`, signal);
    }
  }

  async get(key: string, options: GetOptions = {}): Promise<Uint8Array> {
    assertKey(key);
    const { range, signal } = options;
    const input = { Bucket: this.#bucket, Key: key };
    const command = new GetObjectCommand(
      range === undefined ? input : { ...input, Range: `bytes=${range.offset}-${range.offset + range.length - 1}` },
    );
    try {
      const answer = await this.#despiteSkew(() => this.#client.send(command, callOptions(signal, range?.length)));
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

  async stat(key: string, options: CallOptions = {}): Promise<ObjectStat | null> {
    assertKey(key);
    const found = await this.#head(key, options.signal);
    return found === null
      ? null
      : { sizeBytes: found.sizeBytes, ...(found.md5 === undefined ? {} : { md5: found.md5 }) };
  }

  async *list(prefix: string, options: CallOptions = {}): AsyncIterable<ObjectInfo> {
    assertPrefix(prefix);
    let token: string | undefined;
    do {
      throwIfAborted(options.signal);
      const input = { Bucket: this.#bucket, Prefix: prefix };
      const command = new ListObjectsV2Command(token === undefined ? input : { ...input, ContinuationToken: token });
      const page = await this.#despiteSkew(() => this.#client.send(command, callOptions(options.signal))).catch(
        (error: unknown) => {
          throw s3Failure(error, `listing ${this.#where(prefix)}`, options.signal);
        },
      );
      for (const { Key: key, Size: sizeBytes, LastModified: modified } of page.Contents ?? []) {
        if (key !== undefined) yield { key, sizeBytes: sizeBytes ?? 0, modifiedMs: modified?.getTime() ?? 0 };
      }
      token = page.IsTruncated === true ? page.NextContinuationToken : undefined;
    } while (token !== undefined);
  }

  async delete(key: string, options: CallOptions = {}): Promise<void> {
    assertKey(key);
    const { signal } = options;
    const found = this.#profile.deletesByVersion ? await this.#head(key, signal) : undefined;
    if (found === null) return;
    const versionId = found?.versionId;
    const target = { Bucket: this.#bucket, Key: key };
    const command = new DeleteObjectCommand(versionId === undefined ? target : { ...target, VersionId: versionId });
    try {
      await this.#despiteSkew(() => this.#client.send(command, callOptions(signal)));
    } catch (error) {
      if (statusOf(error) === 404) return;
      throw s3Failure(error, `deleting ${this.#where(key)}`, signal);
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#client.destroy();
    return Promise.resolve();
  }

  async #head(
    key: string,
    signal: AbortSignal | undefined,
  ): Promise<(ObjectStat & { readonly versionId: string | undefined }) | null> {
    const command = new HeadObjectCommand({ Bucket: this.#bucket, Key: key });
    try {
      const answer = await this.#despiteSkew(() => this.#client.send(command, callOptions(signal)));
      const md5 = MD5_ETAG.exec(answer.ETag ?? '')?.[1];
      const stat = { sizeBytes: answer.ContentLength ?? 0, versionId: answer.VersionId };
      return md5 === undefined ? stat : { ...stat, md5 };
    } catch (error) {
      if (statusOf(error) === 404) return null;
      throw s3Failure(error, `looking at ${this.#where(key)}`, signal);
    }
  }

  /** The refusal of a clock tells the service's own time, which the SDK signs with from then on: one more call works. */
  async #despiteSkew<Answer>(send: () => Promise<Answer>): Promise<Answer> {
    try {
      return await send();
    } catch (error) {
      if (providerCodeOf(error) !== 'RequestTimeTooSkewed') throw error;
      return await send();
    }
  }

  #where(key: string): string {
    return `s3://${this.#bucket}/${key}`;
  }
}

/** The profile a grant names, or else the one its endpoint's host name tells. */
export function profileOfGrant(grant: BucketGrant): StorageProfile {
  return storageProfile(grant.profile ?? providerOfEndpoint(grant.endpoint));
}

function callOptions(
  signal: AbortSignal | undefined,
  bodyBytes = 0,
): { readonly abortSignal?: AbortSignal; readonly requestTimeout: number } {
  const requestTimeout = REQUEST_TIMEOUT_MS + Math.ceil(bodyBytes / SLOWEST_BYTES_PER_MS);
  return signal === undefined ? { requestTimeout } : { abortSignal: signal, requestTimeout };
}
