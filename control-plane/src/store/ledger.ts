import type { InstanceId } from '@dumont/shared/model/ids.ts';
import { integer, integerOrNull, text, textOrNull } from './columns.ts';
import type { Queryable, Row } from './database.ts';

/** One machine asked for. Open until the provider has confirmed twice that it does not exist. */
export interface LedgerRow {
  readonly instanceId: InstanceId;
  readonly provider: string;
  readonly label: string;
  readonly providerRef: string | null;
  readonly priceMicroUsdPerHour: number;
  readonly requestedAtMs: number;
  readonly rentedAtMs: number | null;
  readonly releaseAskedAtMs: number | null;
  readonly goneConfirmations: number;
  readonly goneAtMs: number | null;
  readonly outcome: string | null;
}

/** Written before the provider is called. */
export async function openLedgerRow(
  db: Queryable,
  row: {
    readonly instanceId: InstanceId;
    readonly provider: string;
    readonly label: string;
    readonly priceMicroUsdPerHour: number;
    readonly atMs: number;
  },
): Promise<void> {
  await db.query(
    `insert into ledger (instance_id, provider, label, price_micro_usd_per_hour, requested_at) values ($1, $2, $3, $4, $5)`,
    [row.instanceId, row.provider, row.label, row.priceMicroUsdPerHour, row.atMs],
  );
}

/** The provider said yes; from here on it bills. */
export async function markRented(
  db: Queryable,
  instanceId: InstanceId,
  providerRef: string,
  atMs: number,
): Promise<void> {
  await db.query(
    'update ledger set provider_ref = $2, rented_at = coalesce(rented_at, $3) where instance_id = $1 and gone_at is null',
    [instanceId, providerRef, atMs],
  );
}

/** The provider said no and created nothing. */
export async function closeRefused(db: Queryable, instanceId: InstanceId, reason: string, atMs: number): Promise<void> {
  await db.query('update ledger set gone_at = $3, outcome = $2 where instance_id = $1 and gone_at is null', [
    instanceId,
    `refused: ${reason}`,
    atMs,
  ]);
}

/** Its destruction is wanted; the first reason stays. */
export async function askRelease(db: Queryable, instanceId: InstanceId, reason: string, atMs: number): Promise<void> {
  await db.query(
    `update ledger set release_asked_at = coalesce(release_asked_at, $3), outcome = coalesce(outcome, $2)
     where instance_id = $1 and gone_at is null`,
    [instanceId, reason, atMs],
  );
}

/**
 * Counts one observation of "the provider does not know it", unless the last one is less than `gapMs` away (whichever
 * process made it, whichever way the wall clock moved); the row closes at the second.
 * @returns true when the row is now closed
 */
export async function confirmGone(
  db: Queryable,
  instanceId: InstanceId,
  atMs: number,
  gapMs: number,
): Promise<boolean> {
  const rows = await db.query(
    `update ledger set gone_confirmations = gone_confirmations + 1, gone_seen_at = $2::bigint,
       gone_at = case when gone_confirmations + 1 >= 2 then $2::bigint else null end
     where instance_id = $1 and gone_at is null
       and (gone_seen_at is null or abs($2::bigint - gone_seen_at) >= $3::bigint)
     returning gone_at`,
    [instanceId, atMs, gapMs],
  );
  return rows[0] !== undefined && integerOrNull(rows[0], 'gone_at') !== null;
}

/** The provider showed it again: start counting anew. */
export async function resetGone(db: Queryable, instanceId: InstanceId): Promise<void> {
  await db.query(
    'update ledger set gone_confirmations = 0, gone_seen_at = null where instance_id = $1 and gone_at is null',
    [instanceId],
  );
}

/** Rows whose machine is wanted gone and not proven so. */
export async function listReleasing(db: Queryable): Promise<readonly LedgerRow[]> {
  const rows = await db.query(
    'select * from ledger where gone_at is null and release_asked_at is not null order by release_asked_at',
  );
  return rows.map(toLedger);
}

export async function findLedgerByLabel(db: Queryable, label: string): Promise<LedgerRow | undefined> {
  const rows = await db.query('select * from ledger where label = $1', [label]);
  return rows[0] === undefined ? undefined : toLedger(rows[0]);
}

export async function findLedger(db: Queryable, instanceId: InstanceId): Promise<LedgerRow | undefined> {
  const rows = await db.query('select * from ledger where instance_id = $1', [instanceId]);
  return rows[0] === undefined ? undefined : toLedger(rows[0]);
}

/** Newest first, strictly before the cursor row. */
export async function listLedger(
  db: Queryable,
  options: { readonly includeGone: boolean; readonly before?: string | undefined; readonly limit: number },
): Promise<readonly LedgerRow[]> {
  const rows = await db.query(
    `select * from ledger
     where ($1 or gone_at is null)
       and ($2::text is null or (requested_at, instance_id) < (select requested_at, instance_id from ledger where instance_id = $2))
     order by requested_at desc, instance_id desc limit $3`,
    [options.includeGone, options.before ?? null, options.limit],
  );
  return rows.map(toLedger);
}

/** Sums over all rows; an open rental costs until now. */
export async function ledgerTotals(
  db: Queryable,
  options: { readonly nowMs: number; readonly orphanAfterMs: number },
): Promise<{ readonly costMicroUsd: number; readonly orphanCount: number; readonly orphanMicroUsd: number }> {
  const costSince = (start: string) =>
    `ceil(coalesce(sum(greatest(coalesce(gone_at, $1::bigint) - ${start}, 0)::double precision
       * price_micro_usd_per_hour / 3600000), 0))::bigint`;
  const rows = await db.query(
    `select ${costSince('rented_at')} as cost,
       ${costSince('case when release_asked_at is null then null else greatest(release_asked_at, rented_at) end')} as orphaned,
       count(*) filter (where gone_at is null and release_asked_at <= $1::bigint - $2::bigint) as orphans
     from ledger where rented_at is not null`,
    [options.nowMs, options.orphanAfterMs],
  );
  const row = rows[0] as Row;
  return {
    costMicroUsd: integer(row, 'cost'),
    orphanCount: integer(row, 'orphans'),
    orphanMicroUsd: integer(row, 'orphaned'),
  };
}

function toLedger(row: Row): LedgerRow {
  return {
    instanceId: text(row, 'instance_id') as InstanceId,
    provider: text(row, 'provider'),
    label: text(row, 'label'),
    providerRef: textOrNull(row, 'provider_ref'),
    priceMicroUsdPerHour: integer(row, 'price_micro_usd_per_hour'),
    requestedAtMs: integer(row, 'requested_at'),
    rentedAtMs: integerOrNull(row, 'rented_at'),
    releaseAskedAtMs: integerOrNull(row, 'release_asked_at'),
    goneConfirmations: integer(row, 'gone_confirmations'),
    goneAtMs: integerOrNull(row, 'gone_at'),
    outcome: textOrNull(row, 'outcome'),
  };
}
