import { DumontError, isDumontError } from '@dumont/shared/util/errors.ts';

/**
 * Turns the driver's error into UNAVAILABLE, retryable, when it says that the connection or the server failed rather
 * than the statement; any other error is returned as it is. A transaction that ends so may or may not be committed.
 */
export function wrapConnectionFailure(error: unknown): unknown {
  if (isDumontError(error) || !isConnectionFailure(error)) return error;
  const detail = error instanceof Error ? error.message : String(error);
  return new DumontError('UNAVAILABLE', `the database did not answer: ${detail}`, { retryable: true, cause: error });
}

const SYSTEM_CODES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOENT', // the server's Unix socket is gone
  'ENOTFOUND',
  'EPIPE',
  'ETIMEDOUT',
]);

/** PostgreSQL's: 08… connection exceptions, 53300 too many connections, 57014 timeout, 57P0… shutdown, 25P03 idle transaction ended. */
const STATE_PATTERN = /^(?:08...|53300|57014|57P0.|25P03)$/;

/** The driver gives these no code. */
const MESSAGE_PATTERN =
  /^(?:Connection terminated|Query read timeout|timeout exceeded when trying to connect|Client has encountered a connection error)/;

function isConnectionFailure(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if ('code' in error && typeof error.code === 'string') {
    return SYSTEM_CODES.has(error.code) || STATE_PATTERN.test(error.code);
  }
  return MESSAGE_PATTERN.test(error.message);
}
