import { parsePlanKey, planKey, PRUNES_PREFIX } from '@dumont/shared/format/layout.ts';
import { DumontError, isDumontError } from '@dumont/shared/util/errors.ts';
import { tryParseJson } from '@dumont/shared/util/try-json.ts';
import { z } from 'zod';
import { throwIfAborted, type CallOptions, type ObjectStore } from '../storage/object-store.ts';

/** Packs one prune may delete: 16 TB; more are left to the next. Its plan then has 35 MB. */
export const MAX_PLANNED_PACKS = 1_000_000;
/** Plans of prunes that run or died; one stays per prune that was killed, until the next one has done its work. */
const MAX_PLANS = 1_000;

const planSchema = z.object({
  packs: z.array(z.string().regex(/^[0-9a-f]{32}$/)).max(MAX_PLANNED_PACKS),
});

/** Packs that a prune is about to delete. While its plan is stored, no writer may begin to rely on them. */
export interface PrunePlan {
  readonly pruneId: string;
  readonly packIds: readonly string[];
}

export async function putPlan(store: ObjectStore, plan: PrunePlan, options: CallOptions = {}): Promise<void> {
  const bytes = new TextEncoder().encode(JSON.stringify({ packs: plan.packIds }));
  await store.put(planKey(plan.pruneId), bytes, { ifAbsent: true, signal: options.signal });
}

/**
 * All plans stored when it was called. One that goes meanwhile is left out: its prune has deleted what it was going to.
 * @throws {DumontError} CORRUPT, LIMIT: then nothing may be relied on
 */
export async function readPlans(store: ObjectStore, options: CallOptions = {}): Promise<readonly PrunePlan[]> {
  const pruneIds: string[] = [];
  for await (const { key } of store.list(PRUNES_PREFIX, options)) {
    const pruneId = parsePlanKey(key);
    if (pruneId !== null) pruneIds.push(pruneId);
    if (pruneIds.length > MAX_PLANS) {
      throw new DumontError('LIMIT', `the store holds the plans of more than ${MAX_PLANS} prunes`);
    }
  }
  const plans: PrunePlan[] = [];
  for (const pruneId of pruneIds) {
    throwIfAborted(options.signal);
    const packIds = await readPlan(store, pruneId, options);
    if (packIds !== null) plans.push({ pruneId, packIds });
  }
  return plans;
}

async function readPlan(store: ObjectStore, pruneId: string, options: CallOptions): Promise<readonly string[] | null> {
  const key = planKey(pruneId);
  let bytes: Uint8Array;
  try {
    bytes = await store.get(key, options);
  } catch (error) {
    if (isDumontError(error, 'NOT_FOUND')) return null;
    throw error;
  }
  const parsed = planSchema.safeParse(tryParseJson(new TextDecoder().decode(bytes)));
  if (!parsed.success) throw new DumontError('CORRUPT', `${key} is not the plan of a prune`);
  return parsed.data.packs;
}
