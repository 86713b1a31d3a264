/**
 * Every error code the system uses. Codes are part of the contract (REST `code`, CLI `--json`, protocol refusals):
 * add freely, never rename.
 */
export const ERROR_CODES = [
  'USAGE', // the caller's words are off: flags, fields, environment values
  'NOT_FOUND',
  'CONFLICT',
  'UNAUTHORIZED',
  'LIMIT', // a declared bound was exceeded
  'TIMEOUT',
  'ABORTED',
  'UNAVAILABLE', // the other side did not answer or cannot serve now
  'IO', // a local file operation failed
  'CORRUPT', // bytes do not match what their name or checksum promises
  'PRECONDITION_FAILED', // a conditional write lost
  'STALE_EPOCH', // the caller holds an older epoch than the workspace: it is fenced
  'STALE_PARENT', // the snapshot's parent is not the workspace's head
  'PROTOCOL', // a message the protocol does not allow
  'NO_OFFER', // the market has nothing that fits the policy
  'WORKLOAD', // the user's own command failed
  'PROVIDER', // a provider answered with an error
  'UNSUPPORTED',
  'INTERNAL',
] as const;

/** One of {@link ERROR_CODES}. */
export type ErrorCode = (typeof ERROR_CODES)[number];

export interface DumontErrorOptions {
  /** True when the same call may succeed later without anything being changed by the caller. */
  readonly retryable?: boolean;
  /** What the reader can do about it, one sentence. */
  readonly hint?: string;
  /** The input field, flag or environment variable at fault. */
  readonly field?: string;
  readonly cause?: unknown;
}

/** The only error that crosses a module boundary on purpose. The message says what was tried, with what. */
export class DumontError extends Error {
  override readonly name = 'DumontError';
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly hint: string | undefined;
  readonly field: string | undefined;

  constructor(code: ErrorCode, message: string, options: DumontErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryable = options.retryable ?? false;
    this.hint = options.hint;
    this.field = options.field;
  }
}

/** True for a {@link DumontError}, optionally of one code. */
export function isDumontError(error: unknown, code?: ErrorCode): error is DumontError {
  return error instanceof DumontError && (code === undefined || error.code === code);
}

/** Wraps anything thrown into a {@link DumontError}; a DumontError passes through unchanged. */
export function toDumontError(error: unknown, code: ErrorCode = 'INTERNAL', doing?: string): DumontError {
  if (error instanceof DumontError) return error;
  const text = error instanceof Error ? error.message : String(error);
  return new DumontError(code, doing === undefined ? text : `${doing}: ${text}`, { cause: error });
}

/** The operating system's error code (`ENOENT`, `EADDRINUSE`, …), undefined for other errors. */
export function systemErrorCode(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}
