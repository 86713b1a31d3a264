import type { InstanceId, OperationId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import type { AgentRole } from '@dumont/shared/model/instance.ts';
import type { Offer } from '@dumont/shared/model/offer.ts';
import { STANDBY_SYNC_PORT } from '@dumont/shared/protocol/sync.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { CreateOutcome } from '../providers/provider.ts';
import type { EventType } from '../store/event-types.ts';
import { appendEvent } from '../store/events.ts';
import {
  applyInstanceEvent,
  findInstance,
  insertInstance,
  listHeldByOperation,
  setProviderRef,
} from '../store/instances.ts';
import { askRelease, closeRefused, markRented, openLedgerRow } from '../store/ledger.ts';
import { noteBootFailure, openBoot } from '../store/machine-boots.ts';
import { issueEnrolToken } from '../workspaces/enrolment.ts';
import { findWorkspace } from '../store/workspaces.ts';
import { BootWatch, type BootWatchParts } from './boot-watch.ts';
import { providerOf } from './provider-of.ts';
import type { ReleaseCause, Renter } from './strategy.ts';

/** What the renter needs to hear of connected agents; the hub implements it. */
export interface AgentPresence {
  isConnected(instanceId: InstanceId): boolean;
  waitConnected(instanceId: InstanceId, options: { readonly signal: AbortSignal }): Promise<void>;
}

/** Of the environment of agents: the control plane's URL, log level, storage mount. */
export interface RenterParts extends BootWatchParts {
  readonly presence: AgentPresence;
  /** Prefix of every label this installation gives a machine. */
  readonly labelPrefix: string;
  /** Lets the sweeper act on a release at once. */
  readonly onRelease: () => void;
}

/** For what a machine is rented. */
export interface RentalOwner {
  readonly workspaceId: WorkspaceId;
  readonly operationId: OperationId;
  /** What its agent is to be; `gpu` when absent. */
  readonly role?: AgentRole;
}

/**
 * Rents machines with the books kept: the ledger row exists before the provider hears of it, so a crash at any point
 * leaves something to find the machine by.
 */
export class LedgerRenter implements Renter {
  readonly #parts: RenterParts;
  readonly #workspaceId: WorkspaceId;
  readonly #operationId: OperationId;
  readonly #role: AgentRole;

  constructor(parts: RenterParts, owner: RentalOwner) {
    this.#parts = parts;
    this.#workspaceId = owner.workspaceId;
    this.#operationId = owner.operationId;
    this.#role = owner.role ?? 'gpu';
  }

  async rent(offer: Offer, signal: AbortSignal): ReturnType<Renter['rent']> {
    const { db, clock, labelPrefix } = this.#parts;
    const provider = providerOf(this.#parts.providers, offer.provider);
    const instanceId = newId('instance');
    const label = `${labelPrefix}${instanceId}`;
    const enrolToken = await db.transaction(async (tx) => {
      const atMs = clock.nowMs();
      await insertInstance(tx, {
        id: instanceId,
        workspaceId: this.#workspaceId,
        operationId: this.#operationId,
        role: this.#role,
        offer,
        atMs,
      });
      const { provider: name, machineId, priceMicroUsdPerHour } = offer;
      await openBoot(tx, { instanceId, provider: name, machineId, atMs });
      await openLedgerRow(tx, { instanceId, provider: name, label, priceMicroUsdPerHour, atMs });
      await this.#event(tx, 'machine.requested', instanceId, { offerId: offer.offerId, machineId: offer.machineId });
      return issueEnrolToken(tx, instanceId, { atMs, expiresAtMs: atMs + this.#parts.enrolTokenMs });
    });
    const ports = await this.#portsToOpen();
    const agentEnvironment = { ...this.#parts.agentEnvironment, DUMONT_ENROL_TOKEN: enrolToken };
    let outcome: CreateOutcome;
    try {
      outcome = await provider.create({ offer, label, agentEnvironment, ports }, { signal });
    } catch (error) {
      // It may or may not exist: ask for its destruction, the sweeper looks for it by label until that is certain.
      await this.release(instanceId, 'the provider gave no clear answer');
      if (signal.aborted) throw error;
      return { kind: 'refused', reason: error instanceof Error ? error.message : String(error) };
    }
    return this.#record(instanceId, outcome);
  }

  async waitReady(instanceId: InstanceId, signal: AbortSignal): ReturnType<Renter['waitReady']> {
    const { presence } = this.#parts;
    const failed = new AbortController();
    const either = AbortSignal.any([signal, failed.signal]);
    const connected = presence.waitConnected(instanceId, { signal: either }).then(
      () => ({ kind: 'ready' }) as const,
      (error: unknown) => {
        if (failed.signal.aborted && !signal.aborted) {
          return { kind: 'failed', reason: String(failed.signal.reason) } as const;
        }
        throw error;
      },
    );
    const stopWatching = new AbortController();
    const watch = new BootWatch(this.#parts, instanceId, (reason) => failed.abort(reason));
    const watching = watch.run(AbortSignal.any([either, stopWatching.signal]));
    try {
      const outcome = await connected;
      if (outcome.kind === 'ready') await watch.noteHello();
      return outcome;
    } finally {
      stopWatching.abort();
      await watching;
    }
  }

  async release(instanceId: InstanceId, reason: string, cause?: ReleaseCause): Promise<void> {
    const { db, clock } = this.#parts;
    await releaseInstance(this.#parts, instanceId, reason);
    this.#parts.onRelease();
    if (cause === 'failed') await noteBootFailure(db, instanceId, { reason, atMs: clock.nowMs() });
  }

  /**
   * Machines this operation already holds, found again after a crash: those whose rental was cut short are looked up
   * by label, and given back where the provider does not know them.
   */
  async adopt(signal: AbortSignal): Promise<readonly InstanceId[]> {
    const { db, providers, labelPrefix } = this.#parts;
    const adopted: InstanceId[] = [];
    for (const instance of await listHeldByOperation(db, this.#operationId)) {
      if (instance.epoch !== null || instance.state === 'lost') continue;
      if (instance.providerRef === null) {
        const machines = await providerOf(providers, instance.offer.provider).list({ signal });
        const machine = machines.find(({ label }) => label === `${labelPrefix}${instance.id}`);
        if (machine === undefined) {
          await this.release(instance.id, 'its rental was interrupted');
          continue;
        }
        await this.#record(instance.id, { kind: 'created', ref: machine.ref });
      }
      adopted.push(instance.id);
    }
    return adopted;
  }

  async #portsToOpen(): Promise<readonly number[]> {
    const { http } = (await findWorkspace(this.#parts.db, this.#workspaceId))?.policy.ports ?? {};
    // Users reach a standby as they reach the machine it stands by for.
    const sync = this.#role === 'standby' ? [STANDBY_SYNC_PORT] : [];
    return http === undefined ? sync : [...sync, http];
  }

  async #record(instanceId: InstanceId, outcome: CreateOutcome): ReturnType<Renter['rent']> {
    const { db, clock } = this.#parts;
    const atMs = clock.nowMs();
    if (outcome.kind === 'created') {
      await db.transaction(async (tx) => {
        await markRented(tx, instanceId, outcome.ref, atMs);
        await setProviderRef(tx, instanceId, outcome.ref);
        await applyInstanceEvent(tx, instanceId, 'accepted', atMs);
        await this.#event(tx, 'machine.rented', instanceId, { ref: outcome.ref });
      });
      this.#parts.onChange();
      return { kind: 'rented', instanceId };
    }
    const reason = outcome.kind === 'refused' ? outcome.reason : 'the offer is gone';
    await db.transaction(async (tx) => {
      await closeRefused(tx, instanceId, reason, atMs);
      await applyInstanceEvent(tx, instanceId, 'refused', atMs);
      await this.#event(tx, 'machine.refused', instanceId, { reason });
    });
    this.#parts.onChange();
    return outcome;
  }

  async #event(
    tx: Parameters<typeof appendEvent>[0],
    type: EventType,
    instanceId: InstanceId,
    data: Readonly<Record<string, unknown>>,
  ): Promise<void> {
    const { clock } = this.#parts;
    const { workspaceId, operationId } = { workspaceId: this.#workspaceId, operationId: this.#operationId };
    await appendEvent(tx, { type, atMs: clock.nowMs(), workspaceId, instanceId, operationId, data });
  }
}

/** Marks a machine as wanted gone; idempotent. The sweeper destroys it and proves it. */
export async function releaseInstance(
  parts: Pick<RenterParts, 'db' | 'clock' | 'onChange'>,
  instanceId: InstanceId,
  reason: string,
): Promise<void> {
  await parts.db.transaction(async (tx) => {
    const atMs = parts.clock.nowMs();
    const change = await applyInstanceEvent(tx, instanceId, 'release', atMs);
    await askRelease(tx, instanceId, reason, atMs);
    if (change === undefined || change.before === change.after) return;
    const instance = must(await findInstance(tx, instanceId), 'the instance was just updated');
    const { workspaceId, operationId } = instance;
    await appendEvent(tx, { type: 'machine.releasing', atMs, workspaceId, instanceId, operationId, data: { reason } });
  });
  parts.onChange();
}
