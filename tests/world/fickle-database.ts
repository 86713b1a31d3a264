import type { Database, Queryable, Row } from '@dumont/control-plane/store/database.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';

/** A real database that answers or not, as a test says: while it is down, and at single calls counted from now. */
export class FickleDatabase implements Database {
  readonly flavour;
  readonly #inner: Database;
  isDown = false;
  #calls = 0;
  readonly #failingCalls = new Set<number>();

  constructor(inner: Database) {
    this.flavour = inner.flavour;
    this.#inner = inner;
  }

  /** The call that many from now fails; 1 is the next. */
  failAt(offset: number): void {
    this.#failingCalls.add(this.#calls + offset);
  }

  query(sql: string, parameters?: readonly unknown[]): Promise<readonly Row[]> {
    return this.#pass(() => this.#inner.query(sql, parameters));
  }

  transaction<Result>(work: (tx: Queryable) => Promise<Result>): Promise<Result> {
    return this.#pass(() => this.#inner.transaction(work));
  }

  async #pass<Result>(call: () => Promise<Result>): Promise<Result> {
    this.#calls += 1;
    if (this.isDown || this.#failingCalls.delete(this.#calls)) {
      throw new DumontError('UNAVAILABLE', 'the database did not answer', { retryable: true });
    }
    return call();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }
}
