type Row = Readonly<Record<string, unknown>>;

/** A query that the server does not take, in its words. */
export class QueryError extends Error {}

const LARGEST_PAGE = 25;
const SMALLEST_PAGE = 5;

/** Computed for each answer, so that the server cannot filter by them. */
const COMPUTED = new Set(['dph_total', 'num_gpus', 'gpu_name', 'duration', 'uptime_mins']);

/** One page of `GET /api/v1/instances/`. @throws {QueryError} */
export function instancePage(rows: readonly Row[], query: URLSearchParams): Row {
  const filters = jsonOf<Record<string, { readonly eq?: unknown }>>(query, 'select_filters', {});
  for (const key of Object.keys(filters)) {
    if (COMPUTED.has(key)) throw new QueryError(`${key} is not a valid search key`);
  }
  const fitting = rows.filter((row) =>
    Object.entries(filters).every(([key, { eq }]) => eq === undefined || row[key] === eq),
  );
  const asked = Number(query.get('limit') ?? LARGEST_PAGE);
  const limit = asked <= 0 ? SMALLEST_PAGE : Math.min(LARGEST_PAGE, asked);
  const token = query.get('after_token');
  const start = token === null ? 0 : Number(Buffer.from(token, 'base64').toString());
  const shown = fitting.toSorted(orderOf(query)).slice(start, start + limit);
  const end = start + shown.length;
  return {
    success: true,
    instances_found: shown.length,
    total_instances: fitting.length,
    label_counts: countLabels(fitting),
    next_token: end < fitting.length ? Buffer.from(String(end)).toString('base64') : null,
    instances: shown.map((row) => columnsOf(row, jsonOf<readonly string[]>(query, 'select_cols', ['*']))),
  };
}

function columnsOf(row: Row, columns: readonly string[]): Row {
  if (columns.includes('*')) return row;
  return Object.fromEntries(columns.map((name) => [name, row[name] ?? null]));
}

function orderOf(query: URLSearchParams): (a: Row, b: Row) => number {
  const [first] = jsonOf<readonly { readonly col: string; readonly dir: string }[]>(query, 'order_by', []);
  const { col, dir } = first ?? { col: 'id', dir: 'asc' };
  return (a, b) => (Number(a[col]) - Number(b[col])) * (dir === 'desc' ? -1 : 1);
}

function countLabels(rows: readonly Row[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const row of rows) {
    const label = typeof row['label'] === 'string' ? row['label'] : '';
    counts[label] = (counts[label] ?? 0) + 1;
  }
  return counts;
}

function jsonOf<Value>(query: URLSearchParams, name: string, absent: Value): Value {
  const text = query.get(name);
  if (text === null || text === '') return absent;
  try {
    return JSON.parse(text) as Value;
  } catch {
    throw new QueryError(`${name} is not JSON`);
  }
}
