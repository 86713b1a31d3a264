import { z } from 'zod';
import { offerSchema, rankStandbyOffers } from '@dumont/shared/model/offer.ts';
import { wantsStandby } from '@dumont/shared/model/policy.ts';
import type { StandbyEvent, StandbyState } from '@dumont/shared/model/standby.ts';
import { STANDBY_TABLE } from '@dumont/shared/model/standby.ts';
import { appendEvent } from '../store/events.ts';
import { findInstance, listHeldByOperation } from '../store/instances.ts';
import { rankNear } from '../regions/near.ts';
import { placeOfMachine } from '../regions/place-of-machine.ts';
import { nameStandby } from '../store/standbys.ts';
import { searchAll, workspaceOf } from './move-steps.ts';
import type { OperationKind, StepContext, StepResult } from './operation-kind.ts';
import type { OperationParts } from './operation-parts.ts';

/** Offers kept from a search: enough for every attempt, small enough to store. */
const SHORTLIST_LENGTH = 10;
/** Rounds of offers one operation tries; after a pause another operation begins anew. */
const MAX_ATTEMPTS = 3;

export const standbyDataSchema = z.object({
  attempts: z.int().min(0).default(0),
  /** Hosts that failed in this operation. */
  excludedMachineIds: z.array(z.string()).default([]),
  offers: z.array(offerSchema).default([]),
});
type StandbyData = z.infer<typeof standbyDataSchema>;

type Context = StepContext<StandbyData>;
type Result = Promise<StepResult<StandbyEvent, StandbyData>>;

/** Finds a workspace its standby. It moves nothing, so it runs beside whatever moves the workspace. */
export function standbyKind(
  parts: OperationParts,
): OperationKind<StandbyState, StandbyEvent, StandbyData, 'completed' | 'failed'> {
  return {
    kind: 'standby',
    table: STANDBY_TABLE,
    dataSchema: standbyDataSchema,
    isOver: (state) => state === 'completed' || state === 'failed',
    steps: {
      searching: (context) => searchStep(parts, context),
      provisioning: (context) => provisionStep(parts, context),
      failing: (context) => giveBackStep(parts, context),
    },
    onFailure: (error, data) => ({ event: 'gaveUp', data, error: error.message }),
  };
}

async function searchStep(parts: OperationParts, { workspaceId, data, signal }: Context): Result {
  const { policy, primaryInstanceId } = await workspaceOf(parts, workspaceId);
  if (!wantsStandby(policy)) return { event: 'gaveUp', data, error: 'the policy asks for no standby any more' };
  if (data.attempts >= MAX_ATTEMPTS) return { event: 'gaveUp', data, error: 'no machine came up' };
  const { offers, failures } = await searchAll(parts, signal);
  // A copy on the primary's own host would be lost with it.
  const primary = primaryInstanceId === null ? undefined : await findInstance(parts.db, primaryInstanceId);
  const elsewhere = offers.filter(
    ({ machineId }) => machineId !== primary?.offer.machineId && !data.excludedMachineIds.includes(machineId),
  );
  const place = primary === undefined ? undefined : await placeOfMachine(parts, primary, signal);
  const shortlist = rankNear(rankStandbyOffers(elsewhere, policy), place).slice(0, SHORTLIST_LENGTH);
  const detail = {
    offersSeen: offers.length,
    offersFitting: shortlist.length,
    ...(failures.length > 0 && { failures }),
    ...(place !== undefined && { nearTo: place.coordinates }),
  };
  if (shortlist.length > 0) return { event: 'offersFound', data: { ...data, offers: [...shortlist] }, detail };
  return { event: 'gaveUp', data, detail, error: 'no offer fits: raise the price cap of the standby' };
}

async function provisionStep(parts: OperationParts, context: Context): Result {
  const { data, operationId, workspaceId, signal } = context;
  const renter = parts.renterFor({ operationId, workspaceId, role: 'standby' });
  // One after another: nobody waits for a standby, so nothing is paid for speed.
  const outcome = await parts.strategies.coldstart.obtain({
    offers: data.offers,
    renter,
    adopted: await renter.adopt(signal),
    clock: parts.clock,
    bootDeadlineMs: parts.limits.bootDeadlineMs,
    width: 1,
    signal,
  });
  // A release that could not be asked for is asked for again by the sweeper, once this operation is over.
  await outcome.releases;
  if (outcome.kind === 'exhausted') {
    const hosts = data.offers.map(({ machineId }) => machineId);
    const excludedMachineIds = [...data.excludedMachineIds, ...hosts];
    return {
      event: 'attemptFailed',
      data: { attempts: data.attempts + 1, excludedMachineIds, offers: [] },
      detail: { attempts: outcome.attempts },
      retryAfterMs: parts.limits.retryPauseMs,
    };
  }
  const { instanceId } = outcome;
  const isNamed = await parts.db.transaction(async (tx) => {
    if (!(await nameStandby(tx, workspaceId, instanceId))) return false;
    const atMs = parts.clock.nowMs();
    await appendEvent(tx, { type: 'standby.named', atMs, workspaceId, instanceId, operationId });
    return true;
  });
  if (!isNamed) return { event: 'gaveUp', data, error: 'the workspace has another standby by now' };
  parts.onChange();
  return { event: 'standbyNamed', data, detail: { instanceId } };
}

async function giveBackStep(parts: OperationParts, context: Context): Result {
  const { data, operationId, workspaceId } = context;
  const renter = parts.renterFor({ operationId, workspaceId, role: 'standby' });
  const { standbyInstanceId } = await workspaceOf(parts, workspaceId);
  for (const { id } of await listHeldByOperation(parts.db, operationId)) {
    if (id !== standbyInstanceId) await renter.release(id, 'it did not become the standby');
  }
  return { event: 'released', data };
}
