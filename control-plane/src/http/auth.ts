import type { RequestHandler } from 'express';
import { createHash, timingSafeEqual } from 'node:crypto';
import { DumontError } from '@dumont/shared/util/errors.ts';

const HINT =
  'Send "Authorization: Bearer <token>"; the token is in the file api-token of the control plane\'s data directory.';

/**
 * Lets only requests with the bearer token pass.
 * @throws {DumontError} UNAUTHORIZED from the middleware, for a missing and for a wrong token
 */
export function requireToken(apiToken: string): RequestHandler {
  const expected = digest(apiToken);
  return (request, response, next) => {
    const given = /^Bearer +(\S+) *$/i.exec(request.headers.authorization ?? '')?.[1];
    // Digests have one length, so the comparison's time tells nothing of the token.
    if (given !== undefined && timingSafeEqual(digest(given), expected)) {
      next();
      return;
    }
    response.setHeader('WWW-Authenticate', 'Bearer realm="dumont"');
    const message = given === undefined ? 'this needs an API token' : 'the API token is not the right one';
    throw new DumontError('UNAUTHORIZED', message, { hint: HINT, field: 'Authorization' });
  };
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
