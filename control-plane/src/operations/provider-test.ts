import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import type { InstanceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { formatMicroUsd } from '@dumont/shared/model/money.ts';
import { offerSchema, rankOffers } from '@dumont/shared/model/offer.ts';
import { offerPolicySchema } from '@dumont/shared/model/policy.ts';
import type { ProviderTestEvent, ProviderTestState } from '@dumont/shared/model/provider-test.ts';
import { PROVIDER_TEST_TABLE } from '@dumont/shared/model/provider-test.ts';
import { probeHash } from '@dumont/shared/node/probe-content.ts';
import { instanceIdSchema } from '@dumont/shared/protocol/primitives.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { Deadline } from '@dumont/shared/util/deadline.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { Action } from '@dumont/shared/protocol/command.ts';
import type { ProviderMachine } from '../providers/provider.ts';
import { findInstance } from '../store/instances.ts';
import { findLedger } from '../store/ledger.ts';
import { endTest, stepFailed } from './end-test.ts';
import { searchAll } from './move-steps.ts';
import { runOnMachine } from './on-machine.ts';
import type { OperationKind, StepContext, StepResult } from './operation-kind.ts';
import type { OperationParts } from './operation-parts.ts';
import { readBanner } from './read-banner.ts';

/** The file that the machine writes and reads back. */
export const PROBE_BYTES = 16 * 1_024 * 1_024;
/** What is affordable is judged by a test that takes this long; boots take minutes. */
const LONGEST_TEST_MS = 600_000;
/** Of the budget, for the destruction and its proof, which cost too. */
const DESTROY_RESERVE_MS = 60_000;
/** However cheap the machine is. */
const MAX_RENTAL_MS = 3_600_000;
/** Offers are snapped up by others; after so many the market is the trouble. */
const MAX_ORDERS = 5;
const SHORTLIST_LENGTH = 10;
/** Between two looks at a booting machine: providers bill requests to a rate limit. */
const POLL_MS = 1_000;
/** From the provider's "running" until SSH greets; keys and daemons take a minute on slow hosts. */
const SSH_DEADLINE_MS = 180_000;
/** A provider that says nothing of an address by then gives none. */
const ADDRESS_DEADLINE_MS = 30_000;
/** A minute of a slow disk is a result, too. */
const COMMAND_TIMEOUT_MS = 120_000;
const MAX_STATUSES = 50;

export const providerTestDataSchema = z.object({
  /** Null: any. */
  provider: z.string().nullable(),
  gpuName: z.string().nullable(),
  maxCostMicroUsd: z.int().positive(),
  requireGpu: z.boolean(),
  offers: z.array(offerSchema).default([]),
  instanceId: instanceIdSchema.nullable().default(null),
  /** The probe file's; its content follows from it. */
  nonce: z.string().nullable().default(null),
  /** What the provider said, whenever it was something else. */
  statuses: z.array(z.object({ atMs: z.int(), status: z.string(), rawStatus: z.string().nullable() })).default([]),
  failure: z.string().nullable().default(null),
  destroyingSinceMs: z.int().nullable().default(null),
});
export type ProviderTestData = z.infer<typeof providerTestDataSchema>;

type Context = StepContext<ProviderTestData>;
type Result = Promise<StepResult<ProviderTestEvent, ProviderTestData>>;

/**
 * Tries a provider out: one machine, from the search to the proof that it is gone. Whatever fails, whoever cancels it,
 * wherever the process dies, it ends with the destruction.
 */
export function providerTestKind(
  parts: OperationParts,
): OperationKind<ProviderTestState, ProviderTestEvent, ProviderTestData, 'completed' | 'failed'> {
  const bounded = (step: (parts: OperationParts, context: Context) => Result) => (context: Context) =>
    withinBudget(parts, context, (signal) => step(parts, { ...context, signal }));
  return {
    kind: 'provider-test',
    table: PROVIDER_TEST_TABLE,
    dataSchema: providerTestDataSchema,
    isOver: (state) => state === 'completed' || state === 'failed',
    steps: {
      searching: (context) => searchStep(parts, context),
      creating: (context) => createStep(parts, context),
      booting: bounded(bootStep),
      reaching: bounded(reachStep),
      writing: bounded(writeStep),
      verifying: bounded(verifyStep),
      sampling: bounded(sampleStep),
      destroying: (context) => endTest(parts, context),
    },
    onFailure: (error, data) => stepFailed(data, error.message),
  };
}

async function searchStep(parts: OperationParts, { data, signal }: Context): Result {
  const { provider, gpuName, maxCostMicroUsd } = data;
  const chosen = [...parts.providers].filter(([name]) => provider === null || name === provider);
  const { offers, failures } = await searchAll({ clock: parts.clock, providers: new Map(chosen) }, signal);
  const policy = offerPolicySchema.parse({
    maxPriceMicroUsdPerHour: Math.max(1, Math.floor((maxCostMicroUsd * 3_600_000) / LONGEST_TEST_MS)),
    minDiskGb: 1,
    gpuNames: gpuName === null ? [] : [gpuName],
  });
  const shortlist = rankOffers(offers, policy).slice(0, SHORTLIST_LENGTH);
  const detail = {
    offersSeen: offers.length,
    offersFitting: shortlist.length,
    ...(failures.length > 0 && { failures }),
  };
  if (shortlist.length > 0) return { event: 'offersFound', data: { ...data, offers: [...shortlist] }, detail };
  const whose = provider ?? 'any provider';
  const why = failures.length > 0 ? failures.join('; ') : `none of ${offers.length} offers of ${whose}`;
  return stepFailed(data, `no machine for ${formatMicroUsd(maxCostMicroUsd)} and ten minutes: ${why}`, detail);
}

async function createStep(parts: OperationParts, context: Context): Result {
  const { data, signal } = context;
  const renter = parts.renterFor(context);
  // What a run that was cut short has ordered already.
  const [adopted] = await renter.adopt(signal);
  if (adopted !== undefined) return created(parts, data, adopted);
  const refusals: string[] = [];
  for (const offer of data.offers.slice(0, MAX_ORDERS)) {
    const outcome = await renter.rent(offer, signal);
    if (outcome.kind === 'rented') return created(parts, data, outcome.instanceId, refusals);
    refusals.push(`${offer.offerId}: ${outcome.kind === 'refused' ? outcome.reason : 'no longer offered'}`);
  }
  return stepFailed(data, `every order was refused: ${refusals.join('; ')}`, { refusals });
}

async function created(
  parts: OperationParts,
  data: ProviderTestData,
  instanceId: InstanceId,
  refusals: readonly string[] = [],
): Result {
  const { offer } = must(await findInstance(parts.db, instanceId), 'it was just rented');
  const { provider, machineId, gpuName, priceMicroUsdPerHour } = offer;
  const detail = { instanceId, provider, machineId, gpuName, priceMicroUsdPerHour, refusals };
  return { event: 'created', data: { ...data, instanceId }, detail };
}

async function bootStep(parts: OperationParts, context: Context): Result {
  const { clock, limits } = parts;
  const untilMs = clock.monotonicMs() + limits.bootDeadlineMs;
  const statuses = [...context.data.statuses];
  for (;;) {
    const machine = await show(parts, context);
    const { status, rawStatus } = machine;
    const data = { ...context.data, statuses };
    const before = statuses.at(-1);
    if ((before?.status !== status || before.rawStatus !== rawStatus) && statuses.length < MAX_STATUSES) {
      statuses.push({ atMs: clock.nowMs(), status, rawStatus });
      await context.save(data);
    }
    if (status === 'running') return { event: 'running', data, detail: { ref: machine.ref, statuses } };
    if (status !== 'pending') {
      const words = machine.statusMessage === null ? '' : `: ${machine.statusMessage}`;
      return stepFailed(data, `it did not come up: the provider says ${rawStatus ?? status}${words}`);
    }
    if (clock.monotonicMs() > untilMs) {
      return stepFailed(data, `it did not come up in time: the provider still says ${rawStatus ?? status}`);
    }
    await clock.sleep(POLL_MS, context.signal);
  }
}

/** First the SSH server, from outside; then the agent, from inside. */
async function reachStep(parts: OperationParts, context: Context): Result {
  const { clock, limits } = parts;
  const { data, signal } = context;
  const startMs = clock.monotonicMs();
  const ssh = await waitBanner(parts, context);
  if (ssh.kind === 'silent') return stepFailed(data, `nobody answers at ${ssh.address}`, { address: ssh.address });
  const sshMs = Math.round(clock.monotonicMs() - startMs);
  using deadline = new Deadline(clock, limits.bootDeadlineMs, signal);
  const { instanceId } = machineOf(data);
  const outcome = await parts
    .renterFor(context)
    .waitReady(instanceId, deadline.signal)
    .catch((error: unknown) => {
      if (!deadline.expired) throw error;
      return { kind: 'failed', reason: 'its agent did not say hello in time' } as const;
    });
  const detail = {
    address: ssh.address,
    banner: ssh.banner,
    sshMs,
    agentMs: Math.round(clock.monotonicMs() - startMs),
  };
  if (outcome.kind === 'failed') return stepFailed(data, outcome.reason, detail);
  return { event: 'reached', data, detail };
}

type Greeting =
  | { readonly kind: 'greeted'; readonly address: string | null; readonly banner: string | null }
  | { readonly kind: 'silent'; readonly address: string };

/** A provider that names no address is no failure: its machines are reached by their agents alone. */
async function waitBanner(parts: OperationParts, context: Context): Promise<Greeting> {
  const { clock } = parts;
  const startMs = clock.monotonicMs();
  for (;;) {
    const machine = await show(parts, context);
    const address = machine.ssh ?? machine.probe;
    const waitedMs = clock.monotonicMs() - startMs;
    if (address !== null) {
      const at = `${address.host}:${address.port}`;
      const banner = await readBanner(address, { clock, signal: context.signal });
      if (banner !== null) return { kind: 'greeted', address: at, banner };
      if (waitedMs > SSH_DEADLINE_MS) return { kind: 'silent', address: at };
    } else if (waitedMs > ADDRESS_DEADLINE_MS) return { kind: 'greeted', address: null, banner: null };
    await clock.sleep(POLL_MS, context.signal);
  }
}

async function writeStep(parts: OperationParts, context: Context): Result {
  const nonce = context.data.nonce ?? randomBytes(16).toString('hex');
  const data = { ...context.data, nonce };
  const { file } = await ask(parts, context, { name: 'write-probe', nonce, sizeBytes: PROBE_BYTES });
  const isRight = file.sha256 === probeHash(nonce, PROBE_BYTES);
  if (!isRight) return stepFailed(data, 'it wrote something else than it was told', { ...file });
  return { event: 'written', data, detail: { ...file } };
}

async function verifyStep(parts: OperationParts, context: Context): Result {
  const { data } = context;
  const nonce = must(data.nonce, 'a file was written before');
  const { file } = await ask(parts, context, { name: 'read-probe', nonce });
  const expectedSha256 = probeHash(nonce, PROBE_BYTES);
  const detail = { ...file, expectedSha256 };
  if (file.sha256 !== expectedSha256) return stepFailed(data, 'the file read back is not the one written', detail);
  return { event: 'verified', data, detail };
}

async function sampleStep(parts: OperationParts, context: Context): Result {
  const { data } = context;
  const { offer } = must(await findInstance(parts.db, machineOf(data).instanceId), 'it was rented');
  const { isThere, driver, gpus, tookMs, error } = await ask(parts, context, { name: 'sample-gpus' });
  const names = gpus.map(({ name }) => name);
  const detail = { isThere, driver, gpus: names, ordered: offer.gpuCount, tookMs, error };
  if (data.requireGpu && gpus.length < offer.gpuCount) {
    const seen = error ?? `nvidia-smi sees ${gpus.length}`;
    return stepFailed(data, `${offer.gpuCount} × ${offer.gpuName} ordered: ${seen}`, detail);
  }
  return { event: 'sampled', data, detail };
}

function ask<Name extends Action['name']>(
  parts: OperationParts,
  { data, signal }: Context,
  action: Extract<Action, { name: Name }>,
) {
  const options = { commandId: newId('command'), timeoutMs: COMMAND_TIMEOUT_MS, signal };
  return runOnMachine(parts, machineOf(data).instanceId, action, options);
}

/** The machine as its provider sees it. @throws {DumontError} PROVIDER when it does not know it any more */
async function show(parts: OperationParts, { data, signal }: Context): Promise<ProviderMachine> {
  const { instanceId } = machineOf(data);
  const row = must(await findLedger(parts.db, instanceId), 'what is rented is in the ledger');
  const provider = parts.providers.get(row.provider);
  if (provider === undefined)
    throw new DumontError('UNSUPPORTED', `provider ${row.provider} is not configured any more`);
  const machine = row.providerRef === null ? null : await provider.show(row.providerRef, { signal });
  if (machine === null) throw new DumontError('PROVIDER', 'the provider does not know the machine any more');
  return machine;
}

function machineOf({ instanceId }: ProviderTestData): { readonly instanceId: InstanceId } {
  return { instanceId: must(instanceId, 'a machine was rented before this step') };
}

/** Ends a step when the machine has cost what it may, but for what its destruction costs. */
async function withinBudget(
  parts: OperationParts,
  { data, signal }: Context,
  work: (signal: AbortSignal) => Result,
): Result {
  const { clock } = parts;
  const row = must(await findLedger(parts.db, machineOf(data).instanceId), 'what is rented is in the ledger');
  const affordableMs = (data.maxCostMicroUsd * 3_600_000) / Math.max(1, row.priceMicroUsdPerHour);
  const endMs = (row.rentedAtMs ?? clock.nowMs()) + Math.min(MAX_RENTAL_MS, affordableMs - DESTROY_RESERVE_MS);
  using deadline = new Deadline(clock, Math.max(0, endMs - clock.nowMs()), signal);
  try {
    return await work(deadline.signal);
  } catch (error) {
    if (!deadline.expired || signal.aborted) throw error;
    return stepFailed(data, `the budget of ${formatMicroUsd(data.maxCostMicroUsd)} is used up`);
  }
}
