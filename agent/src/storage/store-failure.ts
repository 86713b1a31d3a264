import { DumontError, type DumontErrorOptions, type ErrorCode } from '@dumont/shared/util/errors.ts';

/** What the service said, as far as it said anything. */
export interface StoreAnswer {
  /** The service's own name for it, such as `SlowDown`; of a connection the system's, such as `ECONNRESET`. */
  readonly providerCode: string;
  /** HTTP status; undefined when no answer came. */
  readonly status: number | undefined;
  /** How long the service asks callers to wait. */
  readonly retryAfterMs: number | undefined;
  /** The service asks for less, or did not answer in time. */
  readonly isPushback: boolean;
}

/** A failed call of an object store that others can react to: slow down, wait as asked, look before repeating. */
export class StoreFailure extends DumontError {
  readonly answer: StoreAnswer;

  constructor(code: ErrorCode, message: string, options: DumontErrorOptions & { readonly answer: StoreAnswer }) {
    super(code, message, options);
    this.answer = options.answer;
  }
}
