import { AssumeRoleCommand, STSClient } from '@aws-sdk/client-sts';
import type { BucketGrant, StorageGrant } from '@dumont/shared/protocol/storage-grant.ts';
import { workspacePrefix } from '@dumont/shared/storage/workspace-prefix.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { MIN_GRANT_TTL_MS, type GrantHolder, type GrantIssuer } from './grant-issuer.ts';

/** A call of STS is answered within milliseconds or not at all. */
const TIMEOUTS = { connectionTimeout: 3_000, requestTimeout: 10_000, throwOnRequestTimeout: true };

export interface StsIssuerOptions {
  /** The operator's keys, which stay here, and the bucket. */
  readonly account: BucketGrant;
  readonly stsEndpoint: string;
  /** Absent where the service's STS knows no roles: MinIO narrows the caller's own rights. */
  readonly roleArn?: string | undefined;
  /** At least MIN_GRANT_TTL_MS. */
  readonly ttlMs: number;
}

/** Sessions of a role narrowed to one workspace's prefix: STS AssumeRole with a session policy. */
export class StsIssuer implements GrantIssuer, AsyncDisposable {
  readonly way = 'sts';
  readonly #options: StsIssuerOptions;
  readonly #client: STSClient;

  constructor(options: StsIssuerOptions) {
    const { accessKeyId, secretAccessKey, sessionToken, region } = options.account;
    this.#options = options;
    this.#client = new STSClient({
      endpoint: options.stsEndpoint,
      region,
      credentials: { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) },
      // Whoever asks for the grant repeats the call, and says so in the history.
      maxAttempts: 1,
      requestHandler: TIMEOUTS,
    });
  }

  async issue(holder: GrantHolder, { signal }: { readonly signal: AbortSignal }): Promise<StorageGrant> {
    const { account, roleArn, ttlMs } = this.#options;
    const prefix = account.prefix + workspacePrefix(holder.workspaceId);
    const command = new AssumeRoleCommand({
      RoleArn: roleArn,
      RoleSessionName: holder.instanceId,
      DurationSeconds: Math.round(Math.max(ttlMs, MIN_GRANT_TTL_MS) / 1_000),
      Policy: JSON.stringify(sessionPolicy({ bucket: account.bucket, prefix, region: account.region })),
    });
    const answer = await this.#client.send(command, { abortSignal: signal }).catch((error: unknown) => {
      throw stsFailure(error, this.#options.stsEndpoint);
    });
    const { AccessKeyId, SecretAccessKey, SessionToken, Expiration } = answer.Credentials ?? {};
    if (AccessKeyId === undefined || SecretAccessKey === undefined || Expiration === undefined) {
      throw new DumontError('PROVIDER', `STS at ${this.#options.stsEndpoint} answered without credentials`);
    }
    return {
      ...account,
      prefix,
      accessKeyId: AccessKeyId,
      secretAccessKey: SecretAccessKey,
      sessionToken: SessionToken,
      expiresAtMs: Expiration.getTime(),
    };
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#client.destroy();
    return Promise.resolve();
  }
}

/**
 * What a machine may do in the bucket: read, write and list below the prefix. No delete; about 500 bytes, the services take
 * 2,048. Pure.
 */
export function sessionPolicy(place: { readonly bucket: string; readonly prefix: string; readonly region: string }) {
  const { bucket, prefix, region } = place;
  const arn = `arn:${partitionOf(region)}:s3:::${bucket}`;
  return {
    Version: '2012-10-17',
    Statement: [
      {
        Effect: 'Allow',
        Action: ['s3:GetObject', 's3:PutObject', 's3:AbortMultipartUpload'],
        Resource: [`${arn}/${prefix}*`],
      },
      {
        Effect: 'Allow',
        Action: ['s3:ListBucket'],
        Resource: [arn],
        Condition: { StringLike: { 's3:prefix': [`${prefix}*`] } },
      },
    ],
  };
}

/** AWS keeps China and its government's regions apart, also in names. */
function partitionOf(region: string): string {
  if (region.startsWith('cn-')) return 'aws-cn';
  return region.startsWith('us-gov-') ? 'aws-us-gov' : 'aws';
}

function stsFailure(error: unknown, endpoint: string): DumontError {
  const status = (error as { $metadata?: { httpStatusCode?: number } } | null)?.$metadata?.httpStatusCode;
  const said = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  const message = `asking STS at ${endpoint} for a session failed: ${said}`;
  if (status !== undefined && status >= 400 && status < 500 && status !== 429) {
    return new DumontError('UNAUTHORIZED', message, {
      hint: 'The key needs sts:AssumeRole on the role, and the role has to trust it; or set STORAGE_GRANTS=presigned.',
      cause: error,
    });
  }
  return new DumontError('UNAVAILABLE', message, { retryable: true, cause: error });
}
