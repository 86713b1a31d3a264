import { createHmac, timingSafeEqual } from 'node:crypto';
import type { WorkspaceId } from '@dumont/shared/model/ids.ts';

/** Where a program puts the token. */
export const TOKEN_HEADER = 'x-dumont-gateway-token';
/** Where a browser keeps the token; every cookie of ours begins with it, and none is shown to a workload. */
export const TOKEN_COOKIE = 'dumont-gateway';
/** Where a link carries the token, once. */
export const TOKEN_PARAMETER = 'dumont-token';

/**
 * A token that opens one workspace's HTTP address until a moment: `<expiry, base 36>.<signature>`. It says nothing that
 * has to be stored; a new secret makes all of them worthless. Pure.
 */
export function signToken(workspaceId: WorkspaceId, expiresAtMs: number, secret: string): string {
  const expiry = expiresAtMs.toString(36);
  return `${expiry}.${signature(workspaceId, expiry, secret)}`;
}

/** When the token ends, wall ms; null for one that is over, of another workspace, or not ours. Pure. */
export function verifyToken(
  token: string,
  expected: { readonly workspaceId: WorkspaceId; readonly secret: string; readonly nowMs: number },
): number | null {
  const match = /^([0-9a-z]{1,11})\.([\w-]{43})$/.exec(token);
  if (match === null) return null;
  const [, expiry = '', given = ''] = match;
  const right = signature(expected.workspaceId, expiry, expected.secret);
  if (!timingSafeEqual(Buffer.from(given), Buffer.from(right))) return null;
  const expiresAtMs = Number.parseInt(expiry, 36);
  return expiresAtMs > expected.nowMs ? expiresAtMs : null;
}

/** The token in a Cookie header; undefined without one. */
export function tokenInCookies(header: string | undefined): string | undefined {
  const pairs = (header ?? '').split(';').map((pair) => pair.trim());
  const found = pairs.find((pair) => pair.startsWith(`${TOKEN_COOKIE}=`));
  return found?.slice(TOKEN_COOKIE.length + 1);
}

/** The token in a path's query, and the path without it; null without one. */
export function takeTokenFromPath(path: string): { readonly token: string; readonly rest: string } | null {
  const [before, query] = splitOnce(path, '?');
  if (query === undefined) return null;
  const parts = query.split('&');
  const found = parts.find((part) => part.startsWith(`${TOKEN_PARAMETER}=`));
  if (found === undefined) return null;
  const others = parts.filter((part) => part !== found).join('&');
  return { token: found.slice(TOKEN_PARAMETER.length + 1), rest: others === '' ? before : `${before}?${others}` };
}

function splitOnce(text: string, mark: string): readonly [string, string | undefined] {
  const at = text.indexOf(mark);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}

function signature(workspaceId: WorkspaceId, expiry: string, secret: string): string {
  return createHmac('sha256', secret).update(`gateway\0${workspaceId}\0${expiry}`).digest('base64url');
}
