import type { Response } from 'express';
import { STATUS_CODES } from 'node:http';
import type { Problem } from '@dumont/shared/api/problem.ts';
import type { DumontError, ErrorCode } from '@dumont/shared/util/errors.ts';

/** The status each error code answers with. */
const STATUS_OF: Readonly<Record<ErrorCode, number>> = {
  USAGE: 400,
  UNAUTHORIZED: 401,
  NOT_FOUND: 404,
  CONFLICT: 409,
  PRECONDITION_FAILED: 412,
  STALE_EPOCH: 409,
  STALE_PARENT: 409,
  LIMIT: 413,
  PROTOCOL: 502,
  UNSUPPORTED: 422,
  NO_OFFER: 503,
  PROVIDER: 502,
  WORKLOAD: 409,
  UNAVAILABLE: 503,
  TIMEOUT: 504,
  ABORTED: 503,
  IO: 500,
  CORRUPT: 500,
  INTERNAL: 500,
};

/** An error of ours as RFC 9457 problem details; `status` overrides the code's own. */
export function problemOf(error: DumontError, status: number = statusOf(error)): Problem {
  return {
    type: `urn:dumont:problem:${error.code.toLowerCase().replaceAll('_', '-')}`,
    title: STATUS_CODES[status] ?? 'Error',
    status,
    detail: error.message,
    code: error.code,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    ...(error.field === undefined ? {} : { field: error.field }),
  };
}

/** A bound on what was sent is final; one on how often is not. */
function statusOf({ code, retryable }: DumontError): number {
  return code === 'LIMIT' && retryable ? 429 : STATUS_OF[code];
}

/** A failure of the program itself: says nothing of the inside, only where the log tells more. */
export function opaqueProblem(requestId: string): Problem {
  return {
    type: 'urn:dumont:problem:internal',
    title: 'Internal Server Error',
    status: 500,
    detail: `the control plane failed to answer; its log names the cause under request ${requestId}`,
    code: 'INTERNAL',
  };
}

export function sendProblem(response: Response, problem: Problem): void {
  response.status(problem.status).type('application/problem+json').send(JSON.stringify(problem));
}
