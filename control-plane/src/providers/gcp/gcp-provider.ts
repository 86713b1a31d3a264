import type { Offer } from '@dumont/shared/model/offer.ts';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { Deadline } from '@dumont/shared/util/deadline.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { OrderQueue } from '../order-queue.ts';
import type { CreateOutcome, CreateRequest, Provider, ProviderMachine, ProviderRef } from '../provider.ts';
import { ComputeApi, ComputeError, type ComputeApiOptions } from './compute-api.ts';
import { freeSlot, GCP_PROVIDER_NAME, GCP_ZONES, gcpOffer, parseOfferId, type GcpShape } from './gcp-offers.ts';
import { instanceName, isHalted, parseRef, portTag, refOf, slotOf, toMachine, type InstancePath } from './machine.ts';
import { firewallBody, instanceBody, requestIdOf } from './order-body.ts';
import type { ComputeInstance, ComputeOperation } from './wire.ts';

export interface GcpProviderOptions {
  readonly api: ComputeApiOptions;
  readonly shape: GcpShape;
  /** Where to rent; absent: every zone with a known price. */
  readonly zones?: readonly string[];
  /** Where a machine's SSH server listens; 22 but in a simulator, which may not be allowed to. */
  readonly sshPort?: number;
  readonly clock: Clock;
  readonly log: Logger;
}

/** From the order until the zone has found room for the machine, ms: seconds as a rule. */
const PLACEMENT_DEADLINE_MS = 90_000;
const PLACEMENT_POLL_MS = 500;
/** A zone that had no room is not offered for this long: within an operation the next one is tried. */
const EXHAUSTED_PAUSE_MS = 600_000;

/** A zone has no room for a machine of this kind now, as operations and as calls tell. */
const EXHAUSTED = /^ZONE_RESOURCE_POOL_EXHAUSTED/;

/**
 * Spot machines without a GPU on Google Compute Engine, for standbys. Its offers are made here, from a table of zones and
 * prices, because Google lists none: a zone shows its room only when asked for a machine. A label is one machine because
 * it is the machine's name, and a zone holds each name once.
 */
export class GcpProvider implements Provider {
  readonly name = GCP_PROVIDER_NAME;
  readonly #options: GcpProviderOptions;
  readonly #api: ComputeApi;
  /** Monotonic ms until which a zone is not offered. */
  readonly #exhaustedUntilMs = new Map<string, number>();
  readonly #openPorts = new Set<number>();
  /** Orders of this process are accepted one after another, so that two for one place have one winner. */
  readonly #orders = new OrderQueue();

  constructor(options: GcpProviderOptions) {
    this.#options = options;
    this.#api = new ComputeApi(options.api);
  }

  async searchOffers({ signal }: { readonly signal: AbortSignal }): Promise<readonly Offer[]> {
    const { clock, shape, zones = GCP_ZONES } = this.#options;
    const taken = await this.#takenSlots(signal);
    const nowMs = clock.monotonicMs();
    return zones
      .filter((zone) => (this.#exhaustedUntilMs.get(zone) ?? nowMs) <= nowMs)
      .map((zone) => gcpOffer({ zone, slot: freeSlot(taken.get(zone) ?? new Set()) }, shape))
      .filter((offer) => offer !== null);
  }

  async create(request: CreateRequest, { signal }: { readonly signal: AbortSignal }): Promise<CreateOutcome> {
    const place = parseOfferId(request.offer.offerId);
    if (place === null || place.machineType !== this.#options.shape.machineType) return { kind: 'offer-gone' };
    const path = { zone: place.zone, name: instanceName(request.label) };
    const answer = await this.#orders.run(() => this.#order(request, { ...place, path }, signal));
    if ('outcome' in answer) return answer.outcome;
    // From here on there may be a machine: what Google refuses now says nothing about it.
    return this.#attempt(() => this.#placed(path, answer.operation, signal));
  }

  async show(ref: ProviderRef, { signal }: { readonly signal: AbortSignal }): Promise<ProviderMachine | null> {
    signal.throwIfAborted();
    const path = parseRef(ref);
    if (path === null) return null;
    return this.#attempt(async () => {
      const instance = await this.#api.find(path, signal);
      if (instance === null) return null;
      const isPreempted = isHalted(instance) && (await this.#api.preempted(path.zone, signal)).has(instance.name);
      return toMachine(instance, { isPreempted, sshPort: this.#sshPort });
    });
  }

  /** Ours only: a project may hold anything else. Preemptions are not asked for. */
  async list({ signal }: { readonly signal: AbortSignal }): Promise<readonly ProviderMachine[]> {
    return this.#attempt(async () => {
      const instances = await this.#api.list(signal);
      return instances.map((instance) => toMachine(instance, { isPreempted: false, sshPort: this.#sshPort }));
    });
  }

  async destroy(ref: ProviderRef, { signal }: { readonly signal: AbortSignal }): Promise<void> {
    signal.throwIfAborted();
    const path = parseRef(ref);
    if (path === null) return;
    await this.#attempt(() => this.#api.delete(path, signal));
    this.#options.log.info({ event: 'gcp.destroy', ref }, 'asked for the end of a machine');
  }

  get #sshPort(): number {
    return this.#options.sshPort ?? 22;
  }

  /** Up to the point where Compute Engine has taken the order on. */
  async #order(
    request: CreateRequest,
    place: { readonly zone: string; readonly slot: number; readonly path: InstancePath },
    signal: AbortSignal,
  ): Promise<{ readonly outcome: CreateOutcome } | { readonly operation: ComputeOperation }> {
    const { zone, slot, path } = place;
    try {
      const held = await this.#api.list(signal, zone);
      const existing = held.find(({ name }) => name === path.name);
      if (existing !== undefined) return { outcome: adopted(existing, request.label) };
      if (held.some((instance) => slotOf(instance) === slot)) return { outcome: { kind: 'offer-gone' } };
      for (const port of request.ports ?? []) await this.#openPort(port, signal);
      const body = instanceBody(request, { ...this.#options.shape, zone, slot });
      const requestId = requestIdOf(request.label, request.offer.offerId);
      return { operation: await this.#api.insert(zone, { requestId, body }, signal) };
    } catch (error) {
      if (!(error instanceof ComputeError)) throw error;
      if (error.status === 409) return { outcome: await this.#adopt(path, request.label, signal) };
      return { outcome: { kind: 'refused', reason: `Google refused: ${error.message}` } };
    }
  }

  /** The name is taken: by another order for this label, one would think. */
  async #adopt(path: InstancePath, label: string, signal: AbortSignal): Promise<CreateOutcome> {
    const instance = await this.#attempt(() => this.#api.find(path, signal));
    if (instance === null) throw new DumontError('PROVIDER', `${path.name} exists and then it does not`);
    return adopted(instance, label);
  }

  /**
   * Waits until the zone has found room, which is when the machine gets past PROVISIONING: the operation itself goes on
   * until it has booted.
   */
  async #placed(path: InstancePath, operation: ComputeOperation, signal: AbortSignal): Promise<CreateOutcome> {
    const { clock, log } = this.#options;
    using deadline = new Deadline(clock, PLACEMENT_DEADLINE_MS, signal);
    try {
      for (let current = operation; ; current = await this.#api.operation(path.zone, operation.name, deadline.signal)) {
        if (current.errors.length > 0) return this.#notPlaced(path.zone, current);
        const isPlaced = current.isDone || (await this.#isPastProvisioning(path, deadline.signal));
        if (isPlaced) break;
        await clock.sleep(PLACEMENT_POLL_MS, deadline.signal);
      }
    } catch (error) {
      if (!deadline.expired) throw error;
      throw new DumontError('TIMEOUT', `${path.zone} placed no machine within ${PLACEMENT_DEADLINE_MS} ms`, {
        retryable: true,
        cause: error,
      });
    }
    log.info({ event: 'gcp.created', ref: refOf(path) }, 'machine created');
    return { kind: 'created', ref: refOf(path) };
  }

  async #isPastProvisioning(path: InstancePath, signal: AbortSignal): Promise<boolean> {
    const instance = await this.#api.find(path, signal);
    return instance !== null && instance.status !== 'PROVISIONING' && instance.status !== 'PENDING';
  }

  #notPlaced(zone: string, { errors }: ComputeOperation): CreateOutcome {
    const { clock, log } = this.#options;
    if (errors.some(({ code }) => EXHAUSTED.test(code))) {
      this.#exhaustedUntilMs.set(zone, clock.monotonicMs() + EXHAUSTED_PAUSE_MS);
      log.info({ event: 'gcp.exhausted', zone }, 'the zone has no room');
      return { kind: 'offer-gone' };
    }
    return { kind: 'refused', reason: errors.map(({ code, message }) => `${code}: ${message}`).join('; ') };
  }

  /** One rule per port and project, for all machines that ask for the port; it stays. */
  async #openPort(port: number, signal: AbortSignal): Promise<void> {
    if (this.#openPorts.has(port)) return;
    if (!(await this.#api.hasFirewall(portTag(port), signal))) {
      try {
        let operation = await this.#api.insertFirewall(firewallBody(port), signal);
        using deadline = new Deadline(this.#options.clock, PLACEMENT_DEADLINE_MS, signal);
        while (!operation.isDone) {
          await this.#options.clock.sleep(PLACEMENT_POLL_MS, deadline.signal);
          operation = await this.#api.globalOperation(operation.name, deadline.signal);
        }
      } catch (error) {
        const isThere = error instanceof ComputeError && error.status === 409;
        if (!isThere) throw error;
      }
    }
    this.#openPorts.add(port);
  }

  async #takenSlots(signal: AbortSignal): Promise<ReadonlyMap<string, ReadonlySet<number>>> {
    const taken = new Map<string, Set<number>>();
    for (const instance of await this.#attempt(() => this.#api.list(signal))) {
      const slot = slotOf(instance);
      if (slot === null) continue;
      taken.set(instance.zone, (taken.get(instance.zone) ?? new Set()).add(slot));
    }
    return taken;
  }

  /** A refusal of a call other than an order is an error of the account or of ours. */
  async #attempt<Result>(work: () => Promise<Result>): Promise<Result> {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof ComputeError)) throw error;
      throw new DumontError('PROVIDER', error.message, {
        cause: error,
        ...(error.status === 401 || error.status === 403
          ? { hint: 'The service account needs the role Compute Instance Admin (v1), and the project the Compute API.' }
          : {}),
      });
    }
  }
}

function adopted(instance: ComputeInstance, label: string): CreateOutcome {
  if (instance.description === label) return { kind: 'created', ref: refOf(instance) };
  return { kind: 'refused', reason: `a machine of another label has the name ${instance.name}` };
}
