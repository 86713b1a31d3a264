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
const MAX_URL_LIFE_SECONDS = 604_800;

type Objection =
  | 'AccessDenied'
  | 'InvalidAccessKeyId'
  | 'InvalidToken'
  | 'RequestTimeTooSkewed'
  | 'SignatureDoesNotMatch'
  | 'XAmzContentSHA256Mismatch';

/** Who signed a request, or an S3 error code when nobody did. */
export type SignatureFinding =
  | { readonly kind: 'signed'; readonly keyId: string }
  | { readonly kind: 'objection'; readonly code: Objection };

export interface SignatureCheck {
  readonly find: (keyId: string) => Credentials | undefined;
  readonly nowMs: number;
}

/** What a signature says of itself, wherever it is written. */
interface Claim {
  readonly keyId: string;
  readonly day: string;
  readonly region: string;
  readonly service: string;
  readonly signedHeaders: string;
  readonly signature: string;
  readonly date: string;
  readonly token: string | undefined;
  readonly bodyHash: string;
}

/** Checks the signature of a request, in its header or in its query. Spec: AWS Signature Version 4. */
export function checkSignature(request: IncomingMessage, body: Buffer, check: SignatureCheck): SignatureFinding {
  const url = new URL(request.url ?? '/', 'http://localhost');
  const isInQuery = url.searchParams.has('X-Amz-Signature');
  const claim = isInQuery ? claimOfQuery(url) : claimOfHeaders(request, body);
  if (claim === undefined) return objection('AccessDenied');
  const credentials = check.find(claim.keyId);
  if (credentials === undefined) return objection('InvalidAccessKeyId');
  if (claim.token !== credentials.sessionToken) return objection('InvalidToken');
  const signedMs = Date.parse(claim.date.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z'));
  if (isInQuery) {
    const seconds = Number(url.searchParams.get('X-Amz-Expires'));
    const isInTime = check.nowMs >= signedMs - MAX_SKEW_MS && check.nowMs < signedMs + seconds * 1_000;
    if (!isInTime || !(seconds >= 1 && seconds <= MAX_URL_LIFE_SECONDS)) return objection('AccessDenied');
  } else if (!(Math.abs(signedMs - check.nowMs) <= MAX_SKEW_MS)) {
    return objection('RequestTimeTooSkewed');
  }
  const isHashed = claim.bodyHash !== 'UNSIGNED-PAYLOAD';
  if (isHashed && claim.bodyHash !== sha256(body)) return objection('XAmzContentSHA256Mismatch');
  const expected = expectedSignature(request, url, { claim, secret: credentials.secretAccessKey });
  if (!timingSafeEqual(expected, Buffer.from(claim.signature, 'hex'))) return objection('SignatureDoesNotMatch');
  return { kind: 'signed', keyId: claim.keyId };
}

function claimOfHeaders({ headers }: IncomingMessage, body: Buffer): Claim | undefined {
  const match =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/(s3|sts)\/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/.exec(
      headers.authorization ?? '',
    );
  if (match === null) return undefined;
  const [, keyId = '', day = '', region = '', service = '', signedHeaders = '', signature = ''] = match;
  const token = headers['x-amz-security-token'];
  return {
    keyId,
    day,
    region,
    service,
    signedHeaders,
    signature,
    date: String(headers['x-amz-date'] ?? ''),
    token: token === undefined ? undefined : String(token),
    // Only S3 has it said in a header.
    bodyHash: service === 's3' ? String(headers['x-amz-content-sha256'] ?? '') : sha256(body),
  };
}

function claimOfQuery({ searchParams }: URL): Claim | undefined {
  const [keyId = '', day = '', region = '', service = ''] = (searchParams.get('X-Amz-Credential') ?? '').split('/');
  const signature = searchParams.get('X-Amz-Signature') ?? '';
  if (searchParams.get('X-Amz-Algorithm') !== 'AWS4-HMAC-SHA256' || !/^[0-9a-f]{64}$/.test(signature)) return undefined;
  return {
    keyId,
    day,
    region,
    service,
    signature,
    signedHeaders: searchParams.get('X-Amz-SignedHeaders') ?? '',
    date: searchParams.get('X-Amz-Date') ?? '',
    token: searchParams.get('X-Amz-Security-Token') ?? undefined,
    bodyHash: 'UNSIGNED-PAYLOAD',
  };
}

function expectedSignature(
  request: IncomingMessage,
  url: URL,
  { claim, secret }: { readonly claim: Claim; readonly secret: string },
): Buffer {
  const { day, region, service, signedHeaders, bodyHash, date } = claim;
  const canonical = [
    request.method,
    url.pathname.split('/').map(reencode).join('/'),
    canonicalQuery(url),
    ...signedHeaders.split(';').map((name) => `${name}:${headerText(request, name)}`),
    '',
    signedHeaders,
    bodyHash,
  ].join('\n');
  const scope = `${day}/${region}/${service}/aws4_request`;
  const text = ['AWS4-HMAC-SHA256', date, scope, sha256(Buffer.from(canonical))].join('\n');
  const key = [day, region, service, 'aws4_request'].reduce<Buffer>(
    (part, next) => hmac(part, next),
    Buffer.from(`AWS4${secret}`),
  );
  return hmac(key, text);
}

function objection(code: Objection): SignatureFinding {
  return { kind: 'objection', code };
}

function canonicalQuery(url: URL): string {
  return [...url.searchParams]
    .filter(([name]) => name !== 'X-Amz-Signature')
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
