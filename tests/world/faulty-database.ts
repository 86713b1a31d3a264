import type { Database, Queryable, Row } from '@dumont/control-plane/store/database.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';

/**
 * A real database whose connection breaks for ever at one call: before the call reaches it, or after it was carried
 * out and before the answer arrives.
 */
export class FaultyDatabase implements Database {
  readonly flavour;
  readonly #inner: Database;
  readonly #breaksAtCall: number;
  readonly #when: 'before' | 'after';
  #calls = 0;

  constructor(inner: Database, breaksAtCall: number, when: 'before' | 'after') {
    this.flavour = inner.flavour;
    this.#inner = inner;
    this.#breaksAtCall = breaksAtCall;
    this.#when = when;
  }

  get isBroken(): boolean {
    return this.#calls >= this.#breaksAtCall;
  }

  query(sql: string, parameters?: readonly unknown[]): Promise<readonly Row[]> {
    return this.#pass(() => this.#inner.query(sql, parameters));
  }

  transaction<Result>(work: (tx: Queryable) => Promise<Result>): Promise<Result> {
    return this.#pass(() => this.#inner.transaction(work));
  }

  async #pass<Result>(call: () => Promise<Result>): Promise<Result> {
    this.#calls += 1;
    if (this.#calls < this.#breaksAtCall) return call();
    if (this.#calls === this.#breaksAtCall && this.#when === 'after') await call();
    throw new DumontError('UNAVAILABLE', 'the connection broke', { retryable: true });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }
}
