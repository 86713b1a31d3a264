import { DumontError, systemErrorCode, type ErrorCode } from '@dumont/shared/util/errors.ts';
import { StoreFailure, type StoreAnswer } from './store-failure.ts';

/** 408 and 429 are the client's pace, 409 a concurrent write of the same key, 5xx the service's trouble. */
const RETRYABLE_STATUS: ReadonlySet<number> = new Set([408, 409, 429, 500, 502, 503, 504]);
/** Answers that ask for fewer requests. */
const PUSHBACK_STATUS: ReadonlySet<number> = new Set([429, 503]);
const PUSHBACK_CODES: ReadonlySet<string> = new Set(['SlowDown', 'TimeoutError', 'RequestTimeout', 'ETIMEDOUT']);
/** A service that asks for more is not obeyed longer: the caller has a deadline of its own. */
const MAX_RETRY_AFTER_MS = 60_000;

interface Meaning {
  readonly code: ErrorCode;
  readonly hint: string;
  readonly field?: string;
}

const CREDENTIALS_HINT = 'Check the key id and the secret key, and that they belong to this endpoint.';

/** Answers that repeating does not change, by the service's own code, and what to do about each. */
const MEANINGS: Readonly<Record<string, Meaning>> = {
  NoSuchBucket: {
    code: 'NOT_FOUND',
    field: 'bucket',
    hint: 'Make the bucket first, or correct its name, the endpoint or the region.',
  },
  InvalidAccessKeyId: { code: 'UNAUTHORIZED', hint: `The service does not know this key id. ${CREDENTIALS_HINT}` },
  SignatureDoesNotMatch: {
    code: 'UNAUTHORIZED',
    hint: 'The secret key, the region or the endpoint is not the one of this key id.',
  },
  AuthorizationHeaderMalformed: { code: 'UNAUTHORIZED', hint: 'The region is not the one of this bucket.' },
  AccessDenied: {
    code: 'UNAUTHORIZED',
    hint: 'Allow this key to get, put and list objects below the prefix of this bucket.',
  },
  ExpiredToken: { code: 'UNAUTHORIZED', hint: 'The temporary credentials ran out; get new ones.' },
  InvalidToken: { code: 'UNAUTHORIZED', hint: 'The session token does not belong to this key id.' },
  RequestTimeTooSkewed: {
    code: 'UNAUTHORIZED',
    hint: 'The clock of this computer is wrong; set it, for example with NTP.',
  },
  PermanentRedirect: {
    code: 'UNAVAILABLE',
    field: 'endpoint',
    hint: 'The bucket lives in another region; use its endpoint and region.',
  },
  EntityTooLarge: { code: 'LIMIT', hint: 'The service takes no single object of this size.' },
  QuotaExceeded: { code: 'LIMIT', hint: 'The storage account is full; free space or raise its cap.' },
};
/** Other names the services give to the same. */
const ALIASES: Readonly<Record<string, string>> = {
  InvalidSecretKey: 'SignatureDoesNotMatch',
  UnauthorizedAccess: 'AccessDenied',
  TokenRefreshRequired: 'ExpiredToken',
  StorageCapExceeded: 'QuotaExceeded',
};

/** HTTP status of an SDK error; undefined when no answer came. */
export function statusOf(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null || !('$metadata' in error)) return undefined;
  return (error.$metadata as { httpStatusCode?: number }).httpStatusCode;
}

/** The service's own code for an SDK error, or the connection's. */
export function providerCodeOf(error: unknown): string {
  if (!(error instanceof Error)) return 'Error';
  return error.name === 'Error' ? (systemErrorCode(error) ?? 'Error') : error.name;
}

/** An SDK error, or a failure of the connection, as ours. A DumontError passes through. */
export function s3Failure(error: unknown, doing: string, signal: AbortSignal | undefined): DumontError {
  if (error instanceof DumontError) return error;
  if (signal?.aborted === true) return new DumontError('ABORTED', `${doing}: stopped on request`, { cause: error });
  const answer = answerOf(error);
  const { providerCode, status } = answer;
  const text = error instanceof Error && error.message !== '' ? error.message : providerCode;
  const said = `${doing}: ${status === undefined ? '' : `${status} `}${providerCode}: ${text}`;
  const meaning = MEANINGS[ALIASES[providerCode] ?? providerCode];
  if (meaning !== undefined) return new StoreFailure(meaning.code, said, { ...meaning, cause: error, answer });
  if (status === 404) {
    return new StoreFailure('NOT_FOUND', `${doing}: there is no such object`, { cause: error, answer });
  }
  if (status === 401 || status === 403) {
    const hint = `${CREDENTIALS_HINT} It may also not be allowed to do this here: dumont-agent probe tells.`;
    return new StoreFailure('UNAUTHORIZED', said, { hint, cause: error, answer });
  }
  const isFinal = status !== undefined && status >= 300 && !RETRYABLE_STATUS.has(status);
  return new StoreFailure('UNAVAILABLE', said, { retryable: !isFinal, cause: error, answer });
}

function answerOf(error: unknown): StoreAnswer {
  const status = statusOf(error);
  const providerCode = providerCodeOf(error);
  return {
    providerCode,
    status,
    retryAfterMs: retryAfterMsOf(error),
    isPushback: (status !== undefined && PUSHBACK_STATUS.has(status)) || PUSHBACK_CODES.has(providerCode),
  };
}

/** Seconds of the Retry-After header; its other form, a date, would need the service's clock and is not used by any. */
function retryAfterMsOf(error: unknown): number | undefined {
  const response = (error as { $response?: { headers?: Readonly<Record<string, string>> } } | null)?.$response;
  const seconds = Number(response?.headers?.['retry-after'] ?? Number.NaN);
  return Number.isFinite(seconds) && seconds >= 0 ? Math.min(seconds * 1_000, MAX_RETRY_AFTER_MS) : undefined;
}
