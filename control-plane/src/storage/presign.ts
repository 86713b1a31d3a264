import { createHash, createHmac } from 'node:crypto';
import type { BucketGrant } from '@dumont/shared/protocol/storage-grant.ts';
import type { StoreRequest } from '@dumont/shared/protocol/signed-request.ts';

/** The control plane's own requests delete too; no agent's does. */
type AnyRequest = StoreRequest | { readonly method: 'DELETE'; readonly key: string };

/**
 * A URL that lets its bearer make exactly one kind of request, until it expires: AWS Signature Version 4 in the query.
 * The body is not part of the signature. A conditional PUT has its `if-none-match: *` signed, so that it has to be sent.
 * Pure.
 * @param options.expiresInMs at most seven days, by the service's own clock
 */
export function presignedUrl(
  account: BucketGrant,
  request: AnyRequest,
  options: { readonly nowMs: number; readonly expiresInMs: number },
): string {
  const url = requestUrl(account, request);
  const isConditional = request.method === 'PUT' && request.ifAbsent;
  const headers = [...(isConditional ? [['if-none-match', '*']] : []), ['host', url.host]] as [string, string][];
  headers.sort(([a], [b]) => (a < b ? -1 : 1));
  const stamp = new Date(options.nowMs).toISOString().replaceAll(/[-:]|\.\d{3}/g, '');
  const day = stamp.slice(0, 8);
  const scope = `${day}/${account.region}/s3/aws4_request`;
  const signedHeaders = headers.map(([name]) => name).join(';');
  const query: Record<string, string> = {
    ...queryOf(request),
    'X-Amz-Algorithm': 'AWS4-HMAC-SHA256',
    'X-Amz-Credential': `${account.accessKeyId}/${scope}`,
    'X-Amz-Date': stamp,
    'X-Amz-Expires': String(Math.floor(options.expiresInMs / 1_000)),
    'X-Amz-SignedHeaders': signedHeaders,
    ...(account.sessionToken === undefined ? {} : { 'X-Amz-Security-Token': account.sessionToken }),
  };
  const canonicalQuery = Object.entries(query)
    .map(([name, value]) => `${encodeRfc3986(name)}=${encodeRfc3986(value)}`)
    .toSorted()
    .join('&');
  const canonical = [
    request.method === 'LIST' ? 'GET' : request.method,
    url.pathname,
    canonicalQuery,
    ...headers.map(([name, value]) => `${name}:${value}`),
    '',
    signedHeaders,
    'UNSIGNED-PAYLOAD',
  ].join('\n');
  const toSign = ['AWS4-HMAC-SHA256', stamp, scope, createHash('sha256').update(canonical).digest('hex')].join('\n');
  const key = [day, account.region, 's3', 'aws4_request'].reduce<Buffer>(
    (secret, part) => hmac(secret, part),
    Buffer.from(`AWS4${account.secretAccessKey}`),
  );
  return `${url.origin}${url.pathname}?${canonicalQuery}&X-Amz-Signature=${hmac(key, toSign).toString('hex')}`;
}

function requestUrl({ endpoint, bucket, forcePathStyle }: BucketGrant, request: AnyRequest): URL {
  const url = new URL(endpoint);
  const key = request.method === 'LIST' ? '' : request.key.split('/').map(encodeRfc3986).join('/');
  const base = url.pathname.replace(/\/$/, '');
  if (forcePathStyle) {
    url.pathname = request.method === 'LIST' ? `${base}/${bucket}` : `${base}/${bucket}/${key}`;
  } else {
    url.host = `${bucket}.${url.host}`;
    url.pathname = `${base}/${key}`;
  }
  return url;
}

function queryOf(request: AnyRequest): Record<string, string> {
  if (request.method !== 'LIST') return {};
  const { prefix, continuationToken } = request;
  return {
    'list-type': '2',
    prefix,
    ...(continuationToken === undefined ? {} : { 'continuation-token': continuationToken }),
  };
}

/** Everything but letters, digits and `-_.~`. */
function encodeRfc3986(text: string): string {
  return encodeURIComponent(text).replaceAll(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
}

function hmac(key: Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}
