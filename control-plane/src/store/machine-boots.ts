import type { InstanceId } from '@dumont/shared/model/ids.ts';
import { integer, integerOrNull, text, textOrNull } from './columns.ts';
import type { Queryable, Row } from './database.ts';
import type { HostKey } from './detection.ts';

/** Written with the order. */
export async function openBoot(
  db: Queryable,
  boot: HostKey & { readonly instanceId: InstanceId; readonly atMs: number },
): Promise<void> {
  await db.query('insert into machine_boots (instance_id, provider, machine_id, asked_at) values ($1, $2, $3, $4)', [
    boot.instanceId,
    boot.provider,
    boot.machineId,
    boot.atMs,
  ]);
}

/** What a boot took, ms; the first figure of each kind stays. */
export interface BootTimes {
  /** Order → the provider says that it runs. */
  readonly runningMs?: number;
  /** It runs → SSH lets us in. */
  readonly sshMs?: number;
  /** SSH lets us in → the agent's hello. */
  readonly installMs?: number;
}

/** No effect on a machine that was not ordered, such as one that its owner brought. */
export async function noteBootTimes(db: Queryable, instanceId: InstanceId, times: BootTimes): Promise<void> {
  await db.query(
    `update machine_boots set running_ms = coalesce(running_ms, $2), ssh_ms = coalesce(ssh_ms, $3),
       install_ms = coalesce(install_ms, $4) where instance_id = $1`,
    [instanceId, times.runningMs ?? null, times.sshMs ?? null, times.installMs ?? null],
  );
}

/** It will not come up; the first reason stays. */
export async function noteBootFailure(
  db: Queryable,
  instanceId: InstanceId,
  failure: { readonly reason: string; readonly atMs: number },
): Promise<void> {
  await db.query(
    'update machine_boots set failed_at = coalesce(failed_at, $3), failure = coalesce(failure, $2) where instance_id = $1',
    [instanceId, failure.reason, failure.atMs],
  );
}

/**
 * Pins the host key that a machine's SSH server shows, unless one is pinned.
 * @returns the pinned one; undefined for a machine that was not ordered
 */
export async function pinHostKey(
  db: Queryable,
  instanceId: InstanceId,
  fingerprint: string,
): Promise<string | undefined> {
  const rows = await db.query(
    'update machine_boots set ssh_host_key = coalesce(ssh_host_key, $2) where instance_id = $1 returning ssh_host_key',
    [instanceId, fingerprint],
  );
  return rows[0] === undefined ? undefined : text(rows[0], 'ssh_host_key');
}

/** What the machines on one host came to, within the time asked for and since its pardon. */
export interface HostRecord extends HostKey {
  readonly gpuName: string;
  /** Orders that the provider took. */
  readonly rented: number;
  /** Of these: the agent spoke; it never will; it was lost after that. The rest were not waited for. */
  readonly ready: number;
  readonly failed: number;
  readonly interrupted: number;
  /** Means, ms; null without one. `helloMs`: order → the agent spoke. */
  readonly runningMs: number | null;
  readonly sshMs: number | null;
  readonly installMs: number | null;
  readonly helloMs: number | null;
  readonly lastFailedAtMs: number | null;
  readonly lastFailure: string | null;
  readonly lastSeenAtMs: number;
}

/** By host, the one last seen first. */
export async function listHostRecords(
  db: Queryable,
  options: {
    readonly sinceMs: number;
    /** Of this host number only, whoever its provider is. */
    readonly machineId?: string | undefined;
    readonly limit: number;
  },
): Promise<readonly HostRecord[]> {
  const rows = await db.query(
    `select b.provider, b.machine_id, max(i.offer ->> 'gpuName') as gpu_name,
       count(*) filter (where i.provider_ref is not null) as rented,
       count(*) filter (where i.ready_at is not null and b.failure is null) as ready,
       count(*) filter (where b.failure is not null) as failed,
       count(*) filter (where i.lost_at is not null) as interrupted,
       avg(b.running_ms) as running_ms, avg(b.ssh_ms) as ssh_ms, avg(b.install_ms) as install_ms,
       avg((i.ready_at - b.asked_at)::double precision) as hello_ms, max(b.failed_at) as last_failed_at,
       (array_agg(b.failure order by b.failed_at desc) filter (where b.failure is not null))[1] as last_failure,
       max(greatest(b.asked_at, coalesce(i.ready_at, 0), coalesce(i.lost_at, 0), coalesce(b.failed_at, 0))) as last_seen
     from machine_boots b join instances i on i.id = b.instance_id
     left join machine_pardons p on p.provider = b.provider and p.machine_id = b.machine_id
     where b.asked_at >= $1 and (p.at is null or b.asked_at > p.at) and ($2::text is null or b.machine_id = $2)
     group by 1, 2 order by last_seen desc, 1, 2 limit $3`,
    [options.sinceMs, options.machineId ?? null, options.limit],
  );
  return rows.map(toRecord);
}

/**
 * Strikes out the past of a host.
 * @returns for how many providers' hosts of that number
 */
export async function pardonHost(
  db: Queryable,
  host: { readonly machineId: string; readonly provider?: string | undefined },
  atMs: number,
): Promise<number> {
  const rows = await db.query(
    `insert into machine_pardons (provider, machine_id, at)
     select distinct provider, machine_id, $3::bigint from machine_boots
     where machine_id = $1 and ($2::text is null or provider = $2)
     on conflict (provider, machine_id) do update set at = excluded.at returning provider`,
    [host.machineId, host.provider ?? null, atMs],
  );
  return rows.length;
}

function toRecord(row: Row): HostRecord {
  return {
    provider: text(row, 'provider'),
    machineId: text(row, 'machine_id'),
    gpuName: text(row, 'gpu_name'),
    rented: integer(row, 'rented'),
    ready: integer(row, 'ready'),
    failed: integer(row, 'failed'),
    interrupted: integer(row, 'interrupted'),
    runningMs: integerOrNull(row, 'running_ms'),
    sshMs: integerOrNull(row, 'ssh_ms'),
    installMs: integerOrNull(row, 'install_ms'),
    helloMs: integerOrNull(row, 'hello_ms'),
    lastFailedAtMs: integerOrNull(row, 'last_failed_at'),
    lastFailure: textOrNull(row, 'last_failure'),
    lastSeenAtMs: integer(row, 'last_seen'),
  };
}
