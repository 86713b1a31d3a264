import { createHash, timingSafeEqual } from 'node:crypto';
import { TOKEN_COOKIE, TOKEN_HEADER } from './gateway-token.ts';

/** Meant for the next hop only (RFC 9110, section 7.6.1, and what older software sends). */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** What we answer ourselves, replace, or must not show to a workload. */
const NOT_FORWARDED = new Set([
  'expect',
  'forwarded',
  'x-forwarded-host',
  'x-forwarded-prefix',
  'x-forwarded-proto',
  'x-real-ip',
  TOKEN_HEADER,
]);

/** A path on the control plane's own origin must not let a workload act on all of that origin. */
const ORIGIN_WIDE = new Set(['clear-site-data', 'service-worker-allowed', 'strict-transport-security']);

/** Names us in the Via header. */
const VIA = '1.1 dumont';

export interface Hop {
  /** The user's address as the socket has it. */
  readonly remoteAddress: string;
  readonly protocol: 'http' | 'https';
  /** In front of the workload's paths in the user's view; empty when reached by host name. */
  readonly prefix: string;
  /** The control plane's own token, which must go nowhere. */
  readonly apiToken: string;
}

/** True when the request has been through a gateway already: it would go round for ever. */
export function hasLooped(via: string | undefined): boolean {
  return via?.split(',').some((hop) => hop.trim() === VIA) ?? false;
}

/**
 * The headers a workload is sent, as `[name, value, …]`: the user's own in their order, without those of the hop, with
 * the facts of the hop. The framing of the body is kept: a body announced in chunks stays so. Pure.
 */
export function forwardedRequestHeaders(raw: readonly string[], hop: Hop): string[] {
  const dropped = hopHeaders(raw);
  const out: string[] = [];
  const seen = { for: [] as string[], via: [] as string[], host: '' };
  for (const [name, value] of pairs(raw)) {
    const lower = name.toLowerCase();
    if (lower === 'x-forwarded-for') seen.for.push(value);
    else if (lower === 'via') seen.via.push(value);
    else if (lower === 'transfer-encoding') out.push('Transfer-Encoding', 'chunked');
    else if (dropped.has(lower) || NOT_FORWARDED.has(lower)) continue;
    else if (lower === 'authorization' && isBearer(value, hop.apiToken)) continue;
    else if (lower === 'cookie') {
      const cookies = withoutOurCookies(value);
      if (cookies !== '') out.push(name, cookies);
    } else out.push(name, value);
    if (lower === 'host') seen.host = value;
  }
  out.push('X-Forwarded-For', [...seen.for, hop.remoteAddress].join(', '));
  out.push('X-Forwarded-Proto', hop.protocol);
  if (seen.host === '') out.push('Host', 'workspace');
  else out.push('X-Forwarded-Host', seen.host);
  if (hop.prefix !== '') out.push('X-Forwarded-Prefix', hop.prefix);
  out.push('Via', [...seen.via, VIA].join(', '));
  return out;
}

/**
 * The headers a user is answered with. Below a path prefix, redirects to paths and cookies stay below it, and nothing
 * speaks for the whole origin, which is the control plane's. Pure.
 */
export function forwardedResponseHeaders(raw: readonly string[], { prefix }: Pick<Hop, 'prefix'>): string[] {
  const dropped = hopHeaders(raw);
  const out: string[] = [];
  for (const [name, value] of pairs(raw)) {
    const lower = name.toLowerCase();
    if (dropped.has(lower) || (prefix !== '' && ORIGIN_WIDE.has(lower))) continue;
    if (lower === 'set-cookie') {
      const cookie = boundCookie(value, prefix);
      if (cookie !== null) out.push(name, cookie);
    } else if (lower === 'location' && /^\/(?![/\\])/.test(value)) out.push(name, below(prefix, value));
    else out.push(name, value);
  }
  return out;
}

/** The values of one header in a raw list, joined by commas; undefined without any. */
export function headerOf(raw: readonly string[], name: string): string | undefined {
  const values = pairs(raw).flatMap(([each, value]) => (each.toLowerCase() === name ? [value] : []));
  return values.length === 0 ? undefined : values.join(', ');
}

function pairs(raw: readonly string[]): readonly (readonly [string, string])[] {
  return Array.from(
    { length: raw.length >> 1 },
    (_, index) => [raw[2 * index] ?? '', raw[2 * index + 1] ?? ''] as const,
  );
}

/** The fixed ones and those that the Connection header names. */
function hopHeaders(raw: readonly string[]): ReadonlySet<string> {
  const named = (headerOf(raw, 'connection') ?? '').split(',').map((name) => name.trim().toLowerCase());
  // What says where the body ends is not the sender's to withdraw.
  return new Set([...HOP_BY_HOP, ...named.filter((name) => name !== 'content-length' && name !== 'host')]);
}

/** A workload that knows its prefix has put it there already. */
function below(prefix: string, path: string): string {
  return path === prefix || path.startsWith(`${prefix}/`) ? path : prefix + path;
}

function isBearer(value: string, token: string): boolean {
  const given = /^Bearer +(\S+) *$/i.exec(value)?.[1];
  return given !== undefined && timingSafeEqual(digest(given), digest(token));
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

function isOurCookie(pair: string): boolean {
  return (pair.split('=', 1)[0] ?? '').trim().toLowerCase().startsWith(TOKEN_COOKIE);
}

function withoutOurCookies(value: string): string {
  return value
    .split(';')
    .map((pair) => pair.trim())
    .filter((pair) => pair !== '' && !isOurCookie(pair))
    .join('; ');
}

/** A workload's cookie, kept to its own addresses; null for one that would replace ours. */
function boundCookie(value: string, prefix: string): string | null {
  const [pair = '', ...attributes] = value.split(';').map((part) => part.trim());
  if (isOurCookie(pair)) return null;
  const nameOf = (attribute: string) => (attribute.split('=', 1)[0] ?? '').trim().toLowerCase();
  // A domain would show it to other workspaces.
  const kept = attributes.filter((attribute) => nameOf(attribute) !== 'domain');
  if (prefix === '') return [pair, ...kept].join('; ');
  const path =
    kept
      .find((attribute) => nameOf(attribute) === 'path')
      ?.split('=')[1]
      ?.trim() ?? '/';
  const rest = kept.filter((attribute) => nameOf(attribute) !== 'path');
  return [pair, ...rest, `Path=${below(prefix, path.startsWith('/') ? path : '/')}`].join('; ');
}
