import { must } from '@dumont/shared/util/assert.ts';

/** Which snapshots of a workspace to keep; a snapshot is kept that any rule keeps. Without any rule all are. */
export interface RetentionPolicy {
  readonly keepLast?: number | undefined;
  /** The last snapshot of each of so many hours, days, weeks (from Monday) and months that have one, in UTC. */
  readonly keepHourly?: number | undefined;
  readonly keepDaily?: number | undefined;
  readonly keepWeekly?: number | undefined;
  readonly keepMonthly?: number | undefined;
  /** All that are at most so much older than the newest. */
  readonly keepWithinMs?: number | undefined;
}

/** What the rules look at. */
interface RetainedSnapshot {
  readonly manifestKey: string;
  /** By the store's clock; no writer's clock decides what is kept. */
  readonly modifiedMs: number;
  /** A prune did not wait for it: it may never have been committed, so that it must not take another's place. */
  readonly isDoubtful: boolean;
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** 1970-01-01 was a Thursday; weeks begin on Mondays. */
const FIRST_MONDAY_OFFSET_MS = 3 * DAY_MS;

/**
 * Splits the snapshots of one workspace. The last by key, which `latest` means, is always kept, and so is every snapshot
 * that the rules would keep if there were no doubtful ones. Pure.
 * @param snapshots ascending by key
 */
export function splitByPolicy<Snapshot extends RetainedSnapshot>(
  snapshots: readonly Snapshot[],
  policy: RetentionPolicy,
): { readonly kept: readonly Snapshot[]; readonly forgotten: readonly Snapshot[] } {
  const certain = snapshots.filter((one) => !one.isDoubtful);
  const keys = new Set([...keysToKeep(snapshots, policy), ...keysToKeep(certain, policy)]);
  return {
    kept: snapshots.filter((one) => keys.has(one.manifestKey)),
    forgotten: snapshots.filter((one) => !keys.has(one.manifestKey)),
  };
}

function keysToKeep(snapshots: readonly RetainedSnapshot[], policy: RetentionPolicy): ReadonlySet<string> {
  const rules = Object.values(policy).filter((rule) => rule !== undefined);
  const latest = snapshots.at(-1);
  if (rules.length === 0 || latest === undefined) return new Set(snapshots.map((one) => one.manifestKey));
  const newestFirst = snapshots.toSorted(
    (a, b) => b.modifiedMs - a.modifiedMs || (a.manifestKey < b.manifestKey ? 1 : -1),
  );
  const newestMs = must(newestFirst[0], 'there is a latest').modifiedMs;
  const keep = new Set([latest.manifestKey]);
  const keepAll = (some: readonly RetainedSnapshot[]) => some.forEach((one) => keep.add(one.manifestKey));
  keepAll(newestFirst.slice(0, policy.keepLast ?? 0));
  keepAll(lastOfEach(newestFirst, policy.keepHourly, (ms) => Math.floor(ms / HOUR_MS)));
  keepAll(lastOfEach(newestFirst, policy.keepDaily, (ms) => Math.floor(ms / DAY_MS)));
  keepAll(lastOfEach(newestFirst, policy.keepWeekly, (ms) => Math.floor((ms + FIRST_MONDAY_OFFSET_MS) / (7 * DAY_MS))));
  keepAll(lastOfEach(newestFirst, policy.keepMonthly, monthOf));
  if (policy.keepWithinMs !== undefined) {
    const sinceMs = newestMs - policy.keepWithinMs;
    keepAll(newestFirst.filter(({ modifiedMs }) => modifiedMs >= sinceMs));
  }
  return keep;
}

function lastOfEach(
  newestFirst: readonly RetainedSnapshot[],
  count: number | undefined,
  periodOf: (ms: number) => number,
): readonly RetainedSnapshot[] {
  const byPeriod = new Map<number, RetainedSnapshot>();
  for (const one of newestFirst) {
    const period = periodOf(one.modifiedMs);
    if (!byPeriod.has(period)) byPeriod.set(period, one);
  }
  return [...byPeriod.values()].slice(0, count ?? 0);
}

function monthOf(ms: number): number {
  const date = new Date(ms);
  return date.getUTCFullYear() * 12 + date.getUTCMonth();
}
