/** A row as the driver gives it; `store/` functions turn it into typed values. */
export type Row = Readonly<Record<string, unknown>>;

/** Runs one statement with `$1…` parameters. Inside a transaction it is that transaction's connection. */
export interface Queryable {
  query(sql: string, parameters?: readonly unknown[]): Promise<readonly Row[]>;
}

/**
 * The database, PostgreSQL or the embedded PGlite. `bigint` columns arrive as numbers (all ours stay below 2^53),
 * `jsonb` as parsed values, `timestamptz` is not used: times are bigint milliseconds of wall time.
 */
export interface Database extends Queryable, AsyncDisposable {
  readonly flavour: 'postgres' | 'pglite';
  /** Runs `work` in one serialisable transaction; a serialisation failure is retried a bounded number of times, so `work` must be repeatable. */
  transaction<Result>(work: (tx: Queryable) => Promise<Result>): Promise<Result>;
}
