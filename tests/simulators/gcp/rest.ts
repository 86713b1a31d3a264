import { createPublicKey, verify } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';

/** An error as Compute Engine answers it. */
export class RestError extends Error {
  override readonly name = 'RestError';
  readonly status: number;
  readonly reason: string;

  constructor(status: number, reason: string, message: string) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

export const notFound = (what: string) => new RestError(404, 'notFound', `The resource '${what}' was not found`);

export async function readBody(request: IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  const text = Buffer.concat(parts).toString('utf8');
  // Calls without a body send an empty JSON string.
  return text === '' ? {} : (JSON.parse(text) as unknown);
}

export function answer(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json; charset=UTF-8' }).end(JSON.stringify(body));
}

export function answerError(response: ServerResponse, error: unknown): void {
  const { status, reason, message } =
    error instanceof RestError ? error : new RestError(500, 'internalError', String(error));
  const errors = [{ message, domain: 'global', reason }];
  answer(response, status, { error: { code: status, message, errors } });
}

/** True when the request carries a token that this account's key signed for Compute Engine, as Google checks it. */
export function isSigned(request: IncomingMessage, account: { readonly email: string; readonly publicKey: string }) {
  const [head = '', claims = '', signature = ''] = (request.headers.authorization ?? '')
    .replace(/^Bearer /, '')
    .split('.');
  if (signature === '') return false;
  const key = createPublicKey(account.publicKey);
  const isGenuine = verify('sha256', Buffer.from(`${head}.${claims}`), key, Buffer.from(signature, 'base64url'));
  if (!isGenuine) return false;
  const { iss, aud } = JSON.parse(Buffer.from(claims, 'base64url').toString()) as { iss: string; aud: string };
  return iss === account.email && aud === 'https://compute.googleapis.com/';
}
