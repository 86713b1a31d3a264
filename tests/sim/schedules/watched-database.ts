import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Database, Queryable, Row } from '@dumont/control-plane/store/database.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';

/** Turns of the promise queue after which nothing moves any more without time or a query: several times the longest chain. */
const SETTLE_TURNS = 24;

/** How busy the one engine is, whoever uses it. */
export class Traffic {
  underWay = 0;
  queries = 0;

  /** Resolves when nothing moves any more until time passes. */
  readonly settled = async (): Promise<void> => {
    for (;;) {
      for (let turn = 0; turn < SETTLE_TURNS; turn += 1) await Promise.resolve();
      if (this.underWay === 0) return;
      while (this.underWay > 0) await nextTurn();
    }
  };
}

/** A real database as one process has it: counted, and deaf from the moment that process is killed. */
export class WatchedDatabase implements Database {
  readonly flavour;
  readonly #inner: Database;
  readonly #traffic: Traffic;
  #isDead = false;

  constructor(inner: Database, traffic: Traffic) {
    this.flavour = inner.flavour;
    this.#inner = inner;
    this.#traffic = traffic;
  }

  /** What is under way is carried out, as by a server; nobody hears of it. */
  kill(): void {
    this.#isDead = true;
  }

  query(sql: string, parameters?: readonly unknown[]): Promise<readonly Row[]> {
    return this.#pass(() => this.#inner.query(sql, parameters));
  }

  transaction<Result>(work: (tx: Queryable) => Promise<Result>): Promise<Result> {
    return this.#pass(() => this.#inner.transaction(work));
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  async #pass<Result>(call: () => Promise<Result>): Promise<Result> {
    this.#throwIfDead();
    this.#traffic.underWay += 1;
    this.#traffic.queries += 1;
    try {
      return await call();
    } finally {
      this.#traffic.underWay -= 1;
      this.#throwIfDead();
    }
  }

  #throwIfDead(): void {
    if (this.#isDead) throw new DumontError('UNAVAILABLE', 'this process is dead');
  }
}
