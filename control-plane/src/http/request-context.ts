import type { Logger } from '@dumont/shared/node/logger.ts';
import { DumontError, isDumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { ErrorRequestHandler, Request, RequestHandler, Response } from 'express';
import { randomUUID } from 'node:crypto';
import { opaqueProblem, problemOf, sendProblem } from './problem.ts';

/**
 * Gives every request an id (the caller's own when it is a sane one) and the headers every answer carries: answers
 * hold live state, so nobody may cache them.
 */
export function requestContext(log: Logger, clock: Clock): RequestHandler {
  return (request, response, next) => {
    const given = request.headers['x-request-id'];
    const requestId = typeof given === 'string' && /^[\w.-]{1,64}$/.test(given) ? given : randomUUID();
    response.setHeader('X-Request-Id', requestId);
    response.setHeader('X-Content-Type-Options', 'nosniff');
    response.setHeader('Cache-Control', 'no-store');
    const startedMs = clock.monotonicMs();
    response.on('close', () => {
      log.debug(
        {
          event: 'http.request',
          requestId,
          method: request.method,
          path: request.path,
          status: response.statusCode,
          durationMs: Math.round(clock.monotonicMs() - startedMs),
        },
        'request answered',
      );
    });
    next();
  };
}

/** The one place that turns a failed request into an answer, and logs those that are the program's own fault. */
export function answerErrors(log: Logger): ErrorRequestHandler {
  return (error: unknown, request, response, _next) => {
    const requestId = String(response.getHeader('X-Request-Id') ?? '');
    if (response.headersSent || response.destroyed) {
      if (!isDumontError(error, 'ABORTED')) logFailure(log, error, request, requestId);
      response.destroy();
      return;
    }
    const known = isDumontError(error) ? error : expressError(error);
    if (known === undefined) {
      logFailure(log, error, request, requestId);
      sendProblem(response, opaqueProblem(requestId));
      return;
    }
    const problem = problemOf(known);
    if (problem.status === 500) logFailure(log, error, request, requestId);
    sendProblem(response, problem);
  };
}

/** Aborts when the caller is gone before it was answered. */
export function callerSignal(response: Response): AbortSignal {
  const gone = new AbortController();
  response.on('close', () => {
    if (!response.writableFinished) gone.abort(new DumontError('ABORTED', 'the caller closed the connection'));
  });
  return gone.signal;
}

/** What Express and its body reader found wrong with the request itself; undefined for anything else. */
function expressError(error: unknown): DumontError | undefined {
  if (typeof error !== 'object' || error === null || !('status' in error)) return undefined;
  if (typeof error.status !== 'number' || error.status < 400 || error.status >= 500) return undefined;
  const wrapped = toDumontError(error);
  if (error.status === 413) {
    return new DumontError('LIMIT', `the body is too large: ${wrapped.message}`, { field: 'body', cause: error });
  }
  return new DumontError('USAGE', `the request cannot be read: ${wrapped.message}`, { cause: error });
}

function logFailure(log: Logger, error: unknown, request: Request, requestId: string): void {
  log.error(
    { event: 'http.failed', requestId, method: request.method, path: request.path, err: error },
    'request failed',
  );
}
