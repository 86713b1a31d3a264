import { S3Client } from '@aws-sdk/client-s3';
import type { BucketGrant } from '@dumont/shared/protocol/storage-grant.ts';

export interface S3ClientOptions {
  /** Bodies of PUTs go without their SHA-256. */
  readonly unsignedPayload: boolean;
  /** The grant whose keys sign the next request; the same place as the first. */
  readonly held: { readonly current: BucketGrant };
  readonly onServerTime?: (serverMs: number) => void;
}

/** The SDK has no time limits of its own: a dead peer would hang a snapshot for ever. */
const TIMEOUTS = { connectionTimeout: 3_000, socketTimeout: 30_000, requestTimeout: 120_000 };
/** The most requests any profile allows at a time. */
const MAX_SOCKETS = 64;

/** What the middleware touches of a request or an answer of the SDK. */
interface HttpMessage {
  readonly headers: Record<string, string>;
}

/** The SDK's client for one grant, set up for every S3-compatible service alike. It makes each call once. */
export function makeS3Client(grant: BucketGrant, options: S3ClientOptions): S3Client {
  const client = new S3Client({
    endpoint: grant.endpoint,
    region: grant.region,
    forcePathStyle: grant.forcePathStyle,
    credentials: () => Promise.resolve(identityOf(options.held.current)),
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
  if (options.unsignedPayload) sendUnsigned(client);
  if (options.onServerTime !== undefined) tellServerTime(client, options.onServerTime);
  return client;
}

/** Keys that ran out long ago as the SDK sees it: so it asks for them before every request, and none is kept here. */
function identityOf({ accessKeyId, secretAccessKey, sessionToken }: BucketGrant) {
  const expiration = new Date(0);
  return { accessKeyId, secretAccessKey, expiration, ...(sessionToken === undefined ? {} : { sessionToken }) };
}

/** The signer takes a hash that is there already: hashing a body costs more than compressing it did. */
function sendUnsigned(client: S3Client): void {
  client.middlewareStack.add(
    (next, context) => (args) => {
      if (context.commandName === 'PutObjectCommand') {
        (args.request as HttpMessage).headers['x-amz-content-sha256'] = 'UNSIGNED-PAYLOAD';
      }
      return next(args);
    },
    { step: 'build', name: 'dumontUnsignedPayload' },
  );
}

function tellServerTime(client: S3Client, onServerTime: (serverMs: number) => void): void {
  client.middlewareStack.add(
    (next) => async (args) => {
      const result = await next(args);
      const serverMs = Date.parse((result.response as HttpMessage).headers['date'] ?? '');
      if (!Number.isNaN(serverMs)) onServerTime(serverMs);
      return result;
    },
    // Inside the deserializer, which throws for refusals: their clock counts too.
    { step: 'deserialize', name: 'dumontServerTime', priority: 'low' },
  );
}
