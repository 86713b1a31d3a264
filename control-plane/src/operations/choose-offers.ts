import { z } from 'zod';
import type { FailoverReport } from '@dumont/shared/api/failover-report.ts';
import { placementScoreSchema, type PlacementScore } from '@dumont/shared/api/machine-history.ts';
import type { StepView } from '@dumont/shared/api/views.ts';
import type { Offer } from '@dumont/shared/model/offer.ts';
import { rankOffers } from '@dumont/shared/model/offer.ts';
import { HISTORY_MS, standingOfHost } from '@dumont/shared/model/host-standing.ts';
import { hostKey, rankByScore, spread, type PlacementNeeds } from '../provisioning/placement.ts';
import { PREFERENCES, widen, type Preference } from '../provisioning/widen.ts';
import { locate } from '../regions/locate.ts';
import { findInstance } from '../store/instances.ts';
import { listHostRecords, type HostRecord } from '../store/machine-boots.ts';
import { findSnapshot } from '../store/snapshots.ts';
import type { WorkspaceRow } from '../store/workspaces.ts';
import type { OperationParts } from './operation-parts.ts';

/** Hosts looked up in the history; of more, those seen longest ago count as unknown. */
const MAX_HOSTS = 5_000;

type Parts = Pick<OperationParts, 'db' | 'clock'>;

/** What a search came to. */
export interface Choice {
  /** Best first. */
  readonly offers: readonly Offer[];
  /** Why, by offer id. */
  readonly scores: Readonly<Record<string, PlacementScore>>;
  /** What the policy prefers and nobody offers. */
  readonly widened: readonly Preference[];
  /** Offers that fit and are on hosts where machines do not come up. */
  readonly blacklistedCount: number;
}

/** Ranks what the market has for a workspace's next machine by its policy, the hosts' history, and where things are. */
export async function chooseOffers(
  parts: Parts,
  workspace: WorkspaceRow,
  search: { readonly offers: readonly Offer[]; readonly avoidedMachineIds: readonly string[]; readonly length: number },
): Promise<Choice> {
  const { policy } = workspace;
  const hosts = await hostsOf(parts);
  const nowMs = parts.clock.nowMs();
  const fitting = rankOffers(search.offers, policy.offers);
  const trusted = fitting.filter((offer) => {
    const record = hosts.get(hostKey(offer));
    return record === undefined || standingOfHost(record, nowMs).blacklistedUntilMs === null;
  });
  const elsewhere = trusted.filter(({ machineId }) => !search.avoidedMachineIds.includes(machineId));
  const { offers, widened } = widen(elsewhere.length > 0 ? elsewhere : trusted, policy.offers);
  const ranked = rankByScore(offers, await needsOf(parts, workspace, hosts));
  const width = policy.strategy === 'race' ? policy.raceWidth : 1;
  const shortlist = spread(ranked, width).slice(0, search.length);
  return {
    offers: shortlist.map(({ offer }) => offer),
    scores: Object.fromEntries(shortlist.map(({ offer, score }) => [offer.offerId, score])),
    widened,
    blacklistedCount: fitting.length - trusted.length,
  };
}

const placementDetailSchema = z.object({
  scores: z.record(z.string(), placementScoreSchema),
  widened: z.array(z.enum(PREFERENCES)).default([]),
});

/** What the steps of an operation tell of the choice of an offer: its last search; null when they tell nothing. Pure. */
export function placementOf(steps: readonly StepView[], { offerId }: Offer): FailoverReport['placement'] {
  for (const { step, detail } of steps.toReversed()) {
    if (step !== 'searching') continue;
    const parsed = placementDetailSchema.safeParse(detail);
    const score = parsed.data?.scores[offerId];
    if (parsed.success && score !== undefined) return { score, widened: parsed.data.widened };
  }
  return null;
}

async function hostsOf({ db, clock }: Parts): Promise<ReadonlyMap<string, HostRecord>> {
  const records = await listHostRecords(db, { sinceMs: clock.nowMs() - HISTORY_MS, limit: MAX_HOSTS });
  return new Map(records.map((record) => [hostKey(record), record]));
}

async function needsOf(
  { db }: Parts,
  { headSnapshotId, standbyInstanceId }: WorkspaceRow,
  hosts: ReadonlyMap<string, HostRecord>,
): Promise<PlacementNeeds> {
  const head = headSnapshotId === null ? undefined : await findSnapshot(db, headSnapshotId);
  const standby = standbyInstanceId === null ? undefined : await findInstance(db, standbyInstanceId);
  return {
    restoreBytes: head?.record.totalBytes ?? 0,
    // By its region's name alone: in a failover nobody waits for a provider to say more.
    standby: standby === undefined ? undefined : locate(standby.offer.region),
    hostOf: (offer) => hosts.get(hostKey(offer)),
  };
}
