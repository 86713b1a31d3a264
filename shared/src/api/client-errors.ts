import type { ErrorCode } from '../util/errors.ts';
import { DumontError, ERROR_CODES, systemErrorCode } from '../util/errors.ts';
import { tryParseJson } from '../util/try-json.ts';
import { problemSchema } from './problem.ts';

/** The error an answer of status 400 and above stands for: the problem's own words where it has them. */
export function answerError(status: number, text: string, baseUrl: string): DumontError {
  const problem = problemSchema.safeParse(tryParseJson(text));
  const retryable = status === 429 || status >= 502;
  if (!problem.success) {
    return new DumontError(status >= 500 ? 'UNAVAILABLE' : 'PROTOCOL', `${baseUrl} answered with status ${status}`, {
      retryable,
      hint: 'This is not how a Dumont control plane answers: check the URL, and any proxy in between.',
    });
  }
  const { code, detail, hint, field } = problem.data;
  return new DumontError(isErrorCode(code) ? code : 'INTERNAL', detail, {
    retryable,
    ...(hint === undefined ? {} : { hint }),
    ...(field === undefined ? {} : { field }),
  });
}

/** Nobody answered at all. */
export function unreachableError(baseUrl: string, error: unknown): DumontError {
  return new DumontError('UNAVAILABLE', `cannot reach the control plane at ${baseUrl}: ${reasonOf(error)}`, {
    retryable: true,
    hint: `Is the control plane running at ${baseUrl}?`,
    cause: error,
  });
}

/** An answer came, but not one of this API. */
export function unreadableError(doing: string, baseUrl: string, detail: string): DumontError {
  return new DumontError('PROTOCOL', `${doing}: ${baseUrl} gave an answer this client cannot read: ${detail}`, {
    hint: 'Check that the URL is that of a Dumont control plane and that both are of the same version.',
  });
}

export function abortedError(doing: string, cause: unknown): DumontError {
  return new DumontError('ABORTED', `${doing}: stopped by the caller`, { cause });
}

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset',
  ENOTFOUND: 'no such host',
  EAI_AGAIN: 'the host name cannot be resolved now',
  EHOSTUNREACH: 'host unreachable',
  ENETUNREACH: 'network unreachable',
  ETIMEDOUT: 'connection timed out',
  UND_ERR_SOCKET: 'connection closed',
};

/** `fetch` says only "fetch failed"; the reason is in the cause, in Node. */
function reasonOf(error: unknown): string {
  let reason = String(error);
  for (let current = error, depth = 0; current instanceof Error && depth < 4; current = current.cause, depth += 1) {
    const code = systemErrorCode(current);
    if (code !== undefined) return REASONS[code] ?? code;
    reason = current.message;
  }
  return reason;
}

function isErrorCode(text: string): text is ErrorCode {
  return (ERROR_CODES as readonly string[]).includes(text);
}
