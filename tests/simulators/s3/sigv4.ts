import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** Temporary credentials: requests have to carry it. */
  readonly sessionToken?: string;
}

/** What S3 allows a client's clock to be off. */
const MAX_SKEW_MS = 15 * 60_000;

type Objection =
  | 'AccessDenied'
  | 'InvalidAccessKeyId'
  | 'InvalidToken'
  | 'RequestTimeTooSkewed'
  | 'SignatureDoesNotMatch'
  | 'XAmzContentSHA256Mismatch';

/** An S3 error code for a request whose signature is not right, undefined when it is. Spec: AWS Signature Version 4. */
export function signatureObjection(
  request: IncomingMessage,
  body: Buffer,
  credentials: Credentials & { readonly nowMs: number },
): Objection | undefined {
  const authorization = request.headers.authorization ?? '';
  const match =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/s3\/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/.exec(
      authorization,
    );
  if (match === null) return 'AccessDenied';
  const [, keyId = '', day = '', region = '', signedHeaders = '', signature = ''] = match;
  if (keyId !== credentials.accessKeyId) return 'InvalidAccessKeyId';
  if (request.headers['x-amz-security-token'] !== credentials.sessionToken) return 'InvalidToken';
  const date = String(request.headers['x-amz-date'] ?? '');
  const dateMs = Date.parse(date.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z'));
  if (!(Math.abs(dateMs - credentials.nowMs) <= MAX_SKEW_MS)) return 'RequestTimeTooSkewed';
  const bodyHash = String(request.headers['x-amz-content-sha256'] ?? '');
  if (bodyHash !== 'UNSIGNED-PAYLOAD' && bodyHash !== sha256(body)) return 'XAmzContentSHA256Mismatch';
  const url = new URL(request.url ?? '/', 'http://localhost');
  const canonical = [
    request.method,
    url.pathname.split('/').map(reencode).join('/'),
    canonicalQuery(url),
    ...signedHeaders.split(';').map((name) => `${name}:${headerText(request, name)}`),
    '',
    signedHeaders,
    bodyHash,
  ].join('\n');
  const scope = `${day}/${region}/s3/aws4_request`;
  const text = ['AWS4-HMAC-SHA256', date, scope, sha256(Buffer.from(canonical))].join('\n');
  const key = [day, region, 's3', 'aws4_request'].reduce<Buffer>(
    (secret, part) => hmac(secret, part),
    Buffer.from(`AWS4${credentials.secretAccessKey}`),
  );
  const expected = hmac(key, text);
  return timingSafeEqual(expected, Buffer.from(signature, 'hex')) ? undefined : 'SignatureDoesNotMatch';
}

function canonicalQuery(url: URL): string {
  return [...url.searchParams]
    .map(([name, value]) => `${encode(name)}=${encode(value)}`)
    .toSorted((a, b) => (a < b ? -1 : 1))
    .join('&');
}

function headerText(request: IncomingMessage, name: string): string {
  const value = request.headers[name] ?? '';
  return (Array.isArray(value) ? value.join(',') : value).trim().replaceAll(/ +/g, ' ');
}

function reencode(segment: string): string {
  return encode(decodeURIComponent(segment));
}

/** RFC 3986: everything but letters, digits and `-_.~`. */
function encode(text: string): string {
  return encodeURIComponent(text).replaceAll(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function hmac(key: Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}
