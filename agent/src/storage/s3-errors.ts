import { DumontError } from '@dumont/shared/util/errors.ts';

/** 408 and 429 are the client's pace, 409 a concurrent write of the same key, 5xx the service's trouble. */
const RETRYABLE_STATUS: ReadonlySet<number> = new Set([408, 409, 429, 500, 502, 503, 504]);

/** HTTP status of an SDK error; undefined when no answer came. */
export function statusOf(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null || !('$metadata' in error)) return undefined;
  return (error.$metadata as { httpStatusCode?: number }).httpStatusCode;
}

/** An SDK error, or a failure of the connection, as ours. A DumontError passes through. */
export function s3Failure(error: unknown, doing: string, signal: AbortSignal | undefined): DumontError {
  if (error instanceof DumontError) return error;
  if (signal?.aborted === true) return new DumontError('ABORTED', `${doing}: stopped on request`, { cause: error });
  const name = error instanceof Error ? error.name : 'Error';
  const text = error instanceof Error && error.message !== '' ? error.message : name;
  const status = statusOf(error);
  if (name === 'NoSuchBucket') {
    return new DumontError('NOT_FOUND', `${doing}: there is no such bucket`, { field: 'bucket', cause: error });
  }
  if (status === 404) return new DumontError('NOT_FOUND', `${doing}: there is no such object`, { cause: error });
  if (name === 'RequestTimeTooSkewed') {
    return new DumontError('UNAUTHORIZED', `${doing}: the store refuses this computer's clock`, {
      hint: 'Set the clock, for example with NTP.',
      cause: error,
    });
  }
  if (status === 401 || status === 403) {
    return new DumontError('UNAUTHORIZED', `${doing}: ${name}: ${text}`, {
      hint: 'Check the key id, the application key, the region and what the key may do in this bucket.',
      cause: error,
    });
  }
  if (status !== undefined && status >= 300 && !RETRYABLE_STATUS.has(status)) {
    return new DumontError('UNAVAILABLE', `${doing}: the store answered ${status} ${name}: ${text}`, { cause: error });
  }
  return new DumontError('UNAVAILABLE', `${doing}: ${name}: ${text}`, { retryable: true, cause: error });
}
