import type { Market, SearchType } from './market.ts';

type Row = Readonly<Record<string, unknown>>;

/** A search that the server does not take, in its words. */
export class BadSearch extends Error {}

/** The server's bound, whatever is asked for. */
const PAGE_CAP = 64;
const DEFAULT_STORAGE_GB = 8;

const OPTIONS = new Set(['order', 'type', 'limit', 'allocated_storage', 'disable_bundling', 'resource_type']);

/** Names that are filters only, and what they are compared with. */
const VIRTUAL: Readonly<Record<string, (row: Row) => unknown>> = {
  verified: (row) => row['verification'] === 'verified',
  datacenter: (row) => row['hosting_type'] === 1,
  geolocation: (row) => String(row['geolocation']).slice(-2),
  driver_version: (row) => row['driver_vers'],
  external: (row) => row['external'] === true,
};

type Compare = (have: unknown, want: unknown) => boolean;

const OPERATORS: Readonly<Record<string, Compare>> = {
  eq: same,
  neq: (have, want) => !same(have, want),
  gt: (have, want) => Number(have) > Number(want),
  gte: (have, want) => Number(have) >= Number(want),
  lt: (have, want) => Number(have) < Number(want),
  lte: (have, want) => Number(have) <= Number(want),
  in: (have, want) => Array.isArray(want) && want.some((each) => same(have, each)),
  notin: (have, want) => Array.isArray(want) && !want.some((each) => same(have, each)),
};

/** What a search finds: filters, order and the cap of the real server, with its quirks. @throws {BadSearch} */
export function search(market: Market, query: Readonly<Record<string, unknown>>): readonly Row[] {
  const type: SearchType = query['type'] === 'bid' ? 'bid' : 'ondemand';
  const rows = market.rows(type, Number(query['allocated_storage'] ?? DEFAULT_STORAGE_GB));
  const filters = { verified: { eq: true }, rentable: { eq: true }, ...query };
  const found = rows.filter((row) => Object.entries(filters).every(([key, wish]) => fits(row, key, wish)));
  const limit = Math.min(PAGE_CAP, Number(query['limit'] ?? PAGE_CAP));
  return found.toSorted(orderOf(query['order'])).slice(0, Math.max(0, limit));
}

function fits(row: Row, key: string, wish: unknown): boolean {
  if (OPTIONS.has(key)) return true;
  if (!(key in row) && !(key in VIRTUAL)) throw new BadSearch(`${key} is not a valid search key`);
  if (typeof wish !== 'object' || wish === null) throw new BadSearch(`Invalid value for ${key}`);
  // Asked for the id of an offer, the server finds nothing; whether it is rented it does not look at.
  const have = key === 'id' ? undefined : (VIRTUAL[key]?.(row) ?? row[key]);
  return Object.entries(wish).every(([name, want]) => {
    const compare = OPERATORS[name];
    if (compare === undefined) throw new BadSearch(`${name} is not a valid search op`);
    return key === 'rented' || compare(have, want);
  });
}

/** Clients send numbers and flags as text. */
function same(have: unknown, want: unknown): boolean {
  if (typeof have === 'number') return have === Number(want);
  if (typeof have === 'boolean') return have === (want === true || want === 'true' || want === 'True');
  return have === want;
}

function orderOf(order: unknown): (a: Row, b: Row) => number {
  const keys = Array.isArray(order) ? (order as [string, string][]) : [['score', 'desc']];
  return (a, b) => {
    for (const [key = '', direction] of keys) {
      const [x, y] = [a[key], b[key]];
      const sign = typeof x === 'string' ? x.localeCompare(String(y)) : Number(x) - Number(y);
      if (sign !== 0) return direction === 'desc' ? -sign : sign;
    }
    return 0;
  };
}
