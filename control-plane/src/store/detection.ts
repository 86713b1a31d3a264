import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { DETECTION_GROUPS } from '@dumont/shared/api/detection.ts';
import { integer, text } from './columns.ts';
import type { Queryable, Row } from './database.ts';

/** What was counted of the detector's words on one machine, or several; times in ms. */
export interface DetectionFigures {
  readonly watchedMs: number;
  readonly suspects: number;
  /** Suspicions taken back, and how long they stood together. */
  readonly mistakes: number;
  readonly mistakeMs: number;
  /** Confirms taken back. */
  readonly averted: number;
  /** Machines given up, and those of them that spoke again. */
  readonly losses: number;
  readonly returned: number;
  /** Silence at the confirm, summed over the losses, and the longest. */
  readonly detectMs: number;
  readonly detectMaxMs: number;
}

/** Adds to an instance's figures. */
export async function addDetectionFigures(
  db: Queryable,
  instanceId: InstanceId,
  more: DetectionFigures,
  atMs: number,
): Promise<void> {
  await db.query(
    `insert into detection_figures (instance_id, watched_ms, suspects, mistakes, mistake_ms, averted, losses, returned,
       detect_ms, detect_max_ms, updated_at)
     select id, $2::double precision, $3::bigint, $4::bigint, $5::double precision, $6::bigint, $7::bigint, $8::bigint,
       $9::double precision, $10::double precision, $11::bigint from instances where id = $1
     on conflict (instance_id) do update set
       watched_ms = detection_figures.watched_ms + excluded.watched_ms,
       suspects = detection_figures.suspects + excluded.suspects,
       mistakes = detection_figures.mistakes + excluded.mistakes,
       mistake_ms = detection_figures.mistake_ms + excluded.mistake_ms,
       averted = detection_figures.averted + excluded.averted,
       losses = detection_figures.losses + excluded.losses,
       returned = detection_figures.returned + excluded.returned,
       detect_ms = detection_figures.detect_ms + excluded.detect_ms,
       detect_max_ms = greatest(detection_figures.detect_max_ms, excluded.detect_max_ms),
       updated_at = excluded.updated_at`,
    [
      instanceId,
      more.watchedMs,
      more.suspects,
      more.mistakes,
      more.mistakeMs,
      more.averted,
      more.losses,
      more.returned,
      more.detectMs,
      more.detectMaxMs,
      atMs,
    ],
  );
}

/** A provider's physical machine. */
export interface HostKey {
  readonly provider: string;
  readonly machineId: string;
}

/** Its stored history, unchecked; undefined for a host never seen. */
export async function findHostHistory(db: Queryable, { provider, machineId }: HostKey): Promise<unknown> {
  const rows = await db.query('select history from detection_hosts where provider = $1 and machine_id = $2', [
    provider,
    machineId,
  ]);
  return rows[0]?.['history'];
}

export async function putHostHistory(db: Queryable, host: HostKey, history: unknown, atMs: number): Promise<void> {
  await db.query(
    `insert into detection_hosts (provider, machine_id, history, updated_at) values ($1, $2, $3, $4)
     on conflict (provider, machine_id) do update set history = excluded.history, updated_at = excluded.updated_at`,
    [host.provider, host.machineId, JSON.stringify(history), atMs],
  );
}

/** Forgets hosts not seen since. */
export async function pruneHostHistories(db: Queryable, beforeMs: number): Promise<void> {
  await db.query('delete from detection_hosts where updated_at < $1', [beforeMs]);
}

type DetectionGroup = (typeof DETECTION_GROUPS)[number];

/** Figures of one instance, host or provider. */
export interface DetectionRow extends DetectionFigures {
  readonly provider: string;
  readonly machineId: string | null;
  readonly instanceId: string | null;
  /** What the machines of averted failovers cost, from the ledger. */
  readonly avertedMicroUsd: number;
}

/** What is not told apart is null. */
const KEYS: Record<DetectionGroup, string> = {
  instance: "i.provider, i.offer ->> 'machineId' as machine_id, i.id as instance_id",
  host: "i.provider, i.offer ->> 'machineId' as machine_id, null::text as instance_id",
  provider: 'i.provider, null::text as machine_id, null::text as instance_id',
};

/** Summed by instance, host or provider; most watched first. An open rental costs until now. */
export async function listDetection(
  db: Queryable,
  options: { readonly by: DetectionGroup; readonly nowMs: number; readonly limit: number },
): Promise<readonly DetectionRow[]> {
  const rows = await db.query(
    `with averted as (
       select o.data ->> 'fromInstanceId' as instance_id,
         sum(greatest(coalesce(l.gone_at, $1::bigint) - l.rented_at, 0)::double precision
           * l.price_micro_usd_per_hour / 3600000) as micro_usd
       from operations o join instances m on m.operation_id = o.id join ledger l on l.instance_id = m.id
       where o.kind = 'failover' and o.state = 'averted' and l.rented_at is not null
       group by 1
     )
     select ${KEYS[options.by]}, sum(watched_ms)::double precision as watched_ms, sum(suspects)::bigint as suspects,
       sum(mistakes)::bigint as mistakes, sum(mistake_ms)::double precision as mistake_ms,
       sum(averted)::bigint as averted, sum(losses)::bigint as losses, sum(returned)::bigint as returned,
       sum(detect_ms)::double precision as detect_ms, max(detect_max_ms)::double precision as detect_max_ms,
       round(sum(coalesce(a.micro_usd, 0)))::bigint as averted_micro_usd
     from detection_figures f join instances i on i.id = f.instance_id
     left join averted a on a.instance_id = f.instance_id
     group by 1, 2, 3 order by 4 desc, 1, 2, 3 limit $2`,
    [options.nowMs, options.limit],
  );
  return rows.map(toDetection);
}

function toDetection(row: Row): DetectionRow {
  return {
    provider: text(row, 'provider'),
    machineId: row['machine_id'] === null ? null : text(row, 'machine_id'),
    instanceId: row['instance_id'] === null ? null : text(row, 'instance_id'),
    watchedMs: integer(row, 'watched_ms'),
    suspects: integer(row, 'suspects'),
    mistakes: integer(row, 'mistakes'),
    mistakeMs: integer(row, 'mistake_ms'),
    averted: integer(row, 'averted'),
    losses: integer(row, 'losses'),
    returned: integer(row, 'returned'),
    detectMs: integer(row, 'detect_ms'),
    detectMaxMs: integer(row, 'detect_max_ms'),
    avertedMicroUsd: integer(row, 'averted_micro_usd'),
  };
}
