import type { Request } from 'express';
import { DumontError } from '@dumont/shared/util/errors.ts';

/** Where a request came from and under which name it reached us. */
export interface Caller {
  /** Of the peer of the connection; a proxy's, behind one. */
  readonly address: string;
  readonly host: string | undefined;
  readonly scheme: 'http' | 'https';
}

export function callerOf(request: Request): Caller {
  // A proxy that ends TLS says so; whoever lies here gets a command line for himself that does not work.
  const isForwardedTls = request.headers['x-forwarded-proto'] === 'https';
  const scheme = request.secure || isForwardedTls ? 'https' : 'http';
  return { address: request.socket.remoteAddress ?? 'unknown', host: request.headers.host, scheme };
}

/**
 * The URL under which machines reach this control plane: the configured one, else the one under which the request came
 * in. It ends up inside a shell script, so only characters that mean nothing to a shell pass.
 * @throws {DumontError} USAGE when neither can be used
 */
export function publicUrlOf(configured: string | undefined, caller: Caller): string {
  const url = (configured ?? `${caller.scheme}://${caller.host ?? ''}`).replace(/\/+$/, '');
  // A request names a host; only the operator may say that we live below a path.
  const hasPath = url.split('/').length > 3;
  const isPlain = PLAIN_URL.test(url) && URL.canParse(url) && (configured !== undefined || !hasPath);
  if (url.length <= MAX_URL_LENGTH && isPlain) return url;
  throw new DumontError('USAGE', `${JSON.stringify(url.slice(0, 200))} cannot stand in an install command`, {
    field: configured === undefined ? 'Host' : 'DUMONT_PUBLIC_URL',
    hint: 'Set DUMONT_PUBLIC_URL to the http(s) URL of this control plane, without anything a shell could stumble over.',
  });
}

const MAX_URL_LENGTH = 500;
/** Scheme, host name or bracketed IPv6 address, port, plain path. */
const PLAIN_URL =
  /^https?:\/\/(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,253}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?(?:\/[A-Za-z0-9._~-]+)*$/;
