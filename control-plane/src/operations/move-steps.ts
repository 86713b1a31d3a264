import type { InstanceId, OperationId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import type { Offer } from '@dumont/shared/model/offer.ts';
import type { CommandProgress } from '@dumont/shared/protocol/command.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { Deadline } from '@dumont/shared/util/deadline.ts';
import { DumontError, isDumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import type { StrategyOutcome } from '../provisioning/strategy.ts';
import type { NewEvent } from '../store/events.ts';
import { appendEvent } from '../store/events.ts';
import { findInstance, listHeldByOperation } from '../store/instances.ts';
import { findLedger } from '../store/ledger.ts';
import { findSnapshot } from '../store/snapshots.ts';
import type { WorkspaceRow } from '../store/workspaces.ts';
import { findWorkspace } from '../store/workspaces.ts';
import { refOf } from '../workspaces/assignments.ts';
import { chooseOffers } from './choose-offers.ts';
import type { MoveData } from './move-data.ts';
import { fence } from './fence.ts';
import { discardReplacement, withRestored } from './move-data.ts';
import { runOnMachine } from './on-machine.ts';
import type { StepContext, StepResult } from './operation-kind.ts';
import type { OperationParts } from './operation-parts.ts';
import { checkedStartTimeoutMs } from './workload-limits.ts';

/** Offers kept from a search: enough for every attempt, small enough to store. */
const SHORTLIST_LENGTH = 20;
/** Machines one operation tries before it gives up. */
const MAX_ATTEMPTS = 8;
const SEARCH_TIMEOUT_MS = 30_000;
/** How often the proof of a release is looked up besides the bell. */
const RELEASE_POLL_MS = 500;

type MoveResult<Event extends string, Data> = Promise<StepResult<Event, Data>>;

/** Ranks what the market has now. Gives back discarded machines first. */
export async function searchStep<Data extends MoveData>(
  parts: OperationParts,
  context: StepContext<Data>,
): MoveResult<'offersFound' | 'attemptFailed' | 'gaveUp', Data> {
  const data = await giveBackDiscarded(parts, context);
  if (data.ownMachineUntilMs !== null) {
    return {
      event: 'gaveUp',
      data,
      error: "the owner's machine did not join in time, or failed while it was prepared",
    };
  }
  if (data.attempts >= MAX_ATTEMPTS) {
    return { event: 'gaveUp', data, error: `gave up after ${data.attempts} machines that did not work` };
  }
  const workspace = await workspaceOf(parts, context.workspaceId);
  const { offers, failures } = await searchAll(parts, context.signal);
  const fresh = offers.filter((offer) => !data.excludedMachineIds.includes(offer.machineId));
  const { avoidedMachineIds } = data;
  const choice = await chooseOffers(parts, workspace, { offers: fresh, avoidedMachineIds, length: SHORTLIST_LENGTH });
  const { widened, scores, blacklistedCount } = choice;
  const detail = {
    offersSeen: offers.length,
    offersFitting: choice.offers.length,
    ...(blacklistedCount > 0 && { offersBlacklisted: blacklistedCount }),
    ...(widened.length > 0 && { widened }),
    ...(failures.length > 0 && { failures }),
    scores,
  };
  if (choice.offers.length > 0) {
    if (widened.length > 0) await record(parts, context, { type: 'placement.widened', data: { widened } });
    return { event: 'offersFound', data: { ...data, offers: [...choice.offers] }, detail };
  }
  const waitedMs = parts.clock.nowMs() - context.createdAtMs;
  if (waitedMs > parts.limits.giveUpAfterMs) {
    return {
      event: 'gaveUp',
      data,
      detail,
      error: 'no offer fits the policy: raise the price cap or allow more regions',
    };
  }
  return { event: 'attemptFailed', data, detail, retryAfterMs: parts.limits.retryPauseMs };
}

/** Rents by the workspace's strategy until one machine's agent said hello. */
export async function provisionStep<Data extends MoveData>(
  parts: OperationParts,
  context: StepContext<Data>,
): MoveResult<'machineReady' | 'attemptFailed', Data> {
  const { data, signal } = context;
  const { policy } = await workspaceOf(parts, context.workspaceId);
  const renter = parts.renterFor(context);
  const outcome = await parts.strategies[policy.strategy].obtain({
    offers: data.offers,
    renter,
    adopted: await renter.adopt(signal),
    clock: parts.clock,
    bootDeadlineMs: bootDeadlineMs(parts, data),
    width: policy.raceWidth,
    signal,
  });
  watchReleases(parts, outcome);
  if (outcome.kind === 'exhausted') {
    const tried = new Set(outcome.attempts.map(({ offerId }) => offerId));
    const hosts = data.offers.filter(({ offerId }) => tried.has(offerId)).map(({ machineId }) => machineId);
    return {
      event: 'attemptFailed',
      data: { ...data, attempts: data.attempts + 1, excludedMachineIds: [...data.excludedMachineIds, ...hosts] },
      detail: { strategy: policy.strategy, attempts: outcome.attempts },
      retryAfterMs: parts.limits.retryPauseMs,
    };
  }
  const instance = must(await findInstance(parts.db, outcome.instanceId), 'the winner is in the database');
  const replacement = { instanceId: outcome.instanceId, machineId: instance.offer.machineId };
  return {
    event: 'machineReady',
    data: { ...data, replacement },
    detail: {
      strategy: policy.strategy,
      instanceId: outcome.instanceId,
      machineId: instance.offer.machineId,
      losers: outcome.losers,
    },
  };
}

function bootDeadlineMs({ limits, clock }: OperationParts, { ownMachineUntilMs }: MoveData): number {
  return ownMachineUntilMs === null ? limits.bootDeadlineMs : Math.max(0, ownMachineUntilMs - clock.nowMs());
}

/** Puts the head snapshot on the replacement; nothing to do for a workspace without one. */
export async function restoreStep<Data extends MoveData>(
  parts: OperationParts,
  context: StepContext<Data>,
): MoveResult<'restored', Data> {
  const { headSnapshotId } = await workspaceOf(parts, context.workspaceId);
  if (headSnapshotId === null) {
    return { event: 'restored', data: withRestored(context.data, null, null), detail: { snapshotId: null } };
  }
  const snapshot = must(await findSnapshot(parts.db, headSnapshotId), 'the head snapshot is in the database');
  const commandId = context.data.restoreCommandId ?? newId('command');
  const data = { ...context.data, restoreCommandId: commandId };
  await context.save(data);
  const instanceId = readyReplacement(data);
  try {
    const { restore } = await runOnMachine(
      parts,
      instanceId,
      { name: 'restore', snapshot: refOf(snapshot) },
      {
        commandId,
        timeoutMs: parts.limits.restoreTimeoutMs,
        onProgress: (progress) => reportProgress(parts, context, progress),
        signal: context.signal,
      },
    );
    return { event: 'restored', data: withRestored(data, headSnapshotId, restore), detail: { ...restore } };
  } catch (error) {
    // The agent remembers a command's outcome: trying again takes a new one.
    if (!context.signal.aborted) await context.save({ ...data, restoreCommandId: null });
    throw error;
  }
}

/**
 * Starts the workload on the new primary and has its check made. A workload that does not come up, or does not serve, is
 * the user's to mend and would fail on any machine: it is reported, and the workspace stays served.
 */
export async function resumeStep<Data extends MoveData>(
  parts: OperationParts,
  context: StepContext<Data>,
): MoveResult<'workloadChecked', Data> {
  const { policy } = await workspaceOf(parts, context.workspaceId);
  if (policy.workload === undefined) {
    return { event: 'workloadChecked', data: context.data, detail: { workload: 'none' } };
  }
  const commandId = context.data.startCommandId ?? newId('command');
  const data = { ...context.data, startCommandId: commandId };
  await context.save(data);
  const instanceId = readyReplacement(data);
  try {
    const { state, pid, check } = await runOnMachine(
      parts,
      instanceId,
      { name: 'start-workload', stableMs: parts.limits.workloadStableMs, check: true },
      { commandId, timeoutMs: checkedStartTimeoutMs(parts.limits, policy.workload), signal: context.signal },
    );
    const workloadResumedAtMs = parts.clock.nowMs();
    const resumed = { ...data, workloadResumedAtMs, check: check ?? null, workloadError: null };
    const detail = { workload: state, pid, ...(check !== undefined && { check }) };
    if (check === undefined || check.ok) return { event: 'workloadChecked', data: resumed, detail };
    const message = `the workload runs but does not serve: ${check.error ?? 'its check failed'}`;
    await record(parts, context, { type: 'workload.failed', instanceId, data: { message } });
    return { event: 'workloadChecked', data: { ...resumed, workloadError: message }, detail };
  } catch (error) {
    // As with a restore, trying again takes a new command.
    if (!context.signal.aborted) await context.save({ ...data, startCommandId: null });
    if (context.signal.aborted || !isDumontError(error, 'WORKLOAD')) throw error;
    const { message } = toDumontError(error);
    await record(parts, context, { type: 'workload.failed', instanceId, data: { message } });
    return {
      event: 'workloadChecked',
      data: { ...data, workloadError: message },
      detail: { workload: 'failed', message },
    };
  }
}

/**
 * Gives back every machine of this operation but the one kept, and waits for the proof that they are gone; not longer
 * than the kept one lives, for nobody else may move the workspace until then.
 */
export async function releaseAll<Data extends MoveData>(
  parts: OperationParts,
  context: StepContext<Data>,
  options: { readonly keep: InstanceId | undefined; readonly also: readonly InstanceId[]; readonly reason: string },
): Promise<Readonly<Record<string, unknown>>> {
  const renter = parts.renterFor(context);
  const held = (await listHeldByOperation(parts.db, context.operationId)).map(({ id }) => id);
  const targets = new Set([...held, ...options.also, ...context.data.discarded]);
  if (options.keep !== undefined) targets.delete(options.keep);
  for (const instanceId of targets) {
    parts.wardship.unwatch(instanceId);
    await renter.release(instanceId, options.reason);
  }
  const stillThere = await waitGone(parts, [...targets], { keep: options.keep, signal: context.signal });
  return { released: [...targets], stillReleasing: stillThere };
}

/** Waits, bounded, until the ledger has the proof for each. @returns those without proof yet: the sweeper goes on */
export async function waitGone(
  parts: OperationParts,
  instanceIds: readonly InstanceId[],
  options: { readonly keep: InstanceId | undefined; readonly signal: AbortSignal },
): Promise<readonly InstanceId[]> {
  const untilMs = parts.clock.monotonicMs() + parts.limits.releaseWaitMs;
  for (;;) {
    const waiting: InstanceId[] = [];
    for (const instanceId of instanceIds) {
      const row = await findLedger(parts.db, instanceId);
      if (row !== undefined && row.goneAtMs === null) waiting.push(instanceId);
    }
    if (waiting.length === 0 || parts.clock.monotonicMs() >= untilMs) return waiting;
    const kept = options.keep === undefined ? undefined : await findInstance(parts.db, options.keep);
    if (kept?.state === 'lost') return waiting;
    await parts.changed.wait({ clock: parts.clock, atMostMs: RELEASE_POLL_MS, signal: options.signal });
  }
}

/** What a step's failure means for a move: this machine will not do, try another. */
export function moveFailure<Data extends MoveData>(
  error: DumontError,
  data: Data,
  retryAfterMs: number,
): StepResult<'attemptFailed', Data> {
  return { event: 'attemptFailed', data: discardReplacement(data), detail: { error: error.message }, retryAfterMs };
}

/** The prepared machine; steps after `provisioning` always have one. */
export function readyReplacement(data: MoveData): InstanceId {
  return must(data.replacement, 'a replacement was provisioned before this step').instanceId;
}

/** @throws {DumontError} NOT_FOUND */
export async function workspaceOf(parts: Pick<OperationParts, 'db'>, workspaceId: WorkspaceId): Promise<WorkspaceRow> {
  const workspace = await findWorkspace(parts.db, workspaceId);
  if (workspace === undefined) throw new DumontError('NOT_FOUND', `workspace ${workspaceId} does not exist`);
  return workspace;
}

/** Losers are given back while the winner is used; what could not be asked for is caught by the last step. */
function watchReleases(parts: OperationParts, outcome: StrategyOutcome): void {
  void outcome.releases.then((failed) => {
    for (const { instanceId, error } of failed) {
      parts.log.warn({ event: 'provision.release', instanceId, err: error }, 'loser not given back yet');
    }
  });
}

async function giveBackDiscarded<Data extends MoveData>(
  parts: OperationParts,
  context: StepContext<Data>,
): Promise<Data> {
  const renter = parts.renterFor(context);
  // A search begins without a replacement: one that is still there was lost after it had been promoted.
  const data = context.data.replacement === null ? context.data : discardReplacement(context.data);
  const { id: workspaceId, primaryInstanceId } = await workspaceOf(parts, context.workspaceId);
  for (const instanceId of data.discarded) {
    // It was promoted before it failed: what it still publishes must not count once it is given up.
    if (instanceId === primaryInstanceId) {
      await fence(parts, { workspaceId, instanceId, operationId: context.operationId });
    }
    parts.wardship.unwatch(instanceId);
    await renter.release(instanceId, 'it failed while being prepared');
  }
  return { ...data, discarded: [] };
}

/** What all providers offer now; one that fails is left out and told of. */
export async function searchAll(
  parts: Pick<OperationParts, 'clock' | 'providers'>,
  signal: AbortSignal,
): Promise<{ readonly offers: readonly Offer[]; readonly failures: readonly string[] }> {
  using bounded = new Deadline(parts.clock, SEARCH_TIMEOUT_MS, signal);
  const answers = await Promise.allSettled(
    [...parts.providers.values()].map((provider) => provider.searchOffers({ signal: bounded.signal })),
  );
  signal.throwIfAborted();
  const offers = answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []));
  const failures = answers.flatMap((answer) => (answer.status === 'rejected' ? [String(answer.reason)] : []));
  return { offers, failures };
}

function reportProgress<Data>(parts: OperationParts, context: StepContext<Data>, progress: CommandProgress): void {
  const { doneBytes, totalBytes, doneFiles, totalFiles } = progress;
  record(parts, context, { type: 'restore.progress', data: { doneBytes, totalBytes, doneFiles, totalFiles } }).catch(
    (error: unknown) => {
      parts.log.debug({ event: 'operation.progress', err: error }, 'progress not recorded');
    },
  );
}

async function record(
  parts: OperationParts,
  context: { readonly operationId: OperationId; readonly workspaceId: WorkspaceId },
  event: Pick<NewEvent, 'type' | 'instanceId' | 'data'>,
): Promise<void> {
  const { operationId, workspaceId } = context;
  await appendEvent(parts.db, { ...event, atMs: parts.clock.nowMs(), workspaceId, operationId });
  parts.onChange();
}
