import { microUsd } from '@dumont/shared/model/money.ts';
import type { Offer } from '@dumont/shared/model/offer.ts';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import type { CreateOutcome, CreateRequest, Provider, ProviderMachine, ProviderRef, SshAccess } from '../provider.ts';
import type { VastApi } from './vast-api.ts';
import { VastListing } from './vast-listing.ts';
import { freshMachine, machineOf } from './vast-machine.ts';
import { usd, VAST_PROVIDER_NAME } from './vast-offers.ts';
import { VastOrders } from './vast-orders.ts';
import { VastRoster } from './vast-roster.ts';
import type { Verdict } from './vast-verdict.ts';

export interface VastProviderOptions {
  readonly api: VastApi;
  readonly clock: Clock;
  readonly log: Logger;
  /** Container image of the machines. */
  readonly image: string;
  /** Disk of every machine, GB; billed while it exists, and never changed. */
  readonly diskGb: number;
  /** Shell script run at each start of a machine: installs and starts the agent. */
  readonly onstart: string;
  /** The machines and we share one loopback: a control plane that others cannot reach will do. Simulators only. */
  readonly isLocal?: boolean;
}

interface Options {
  readonly signal: AbortSignal;
}

/** A new contract may be invisible for some seconds; one that still is after this is gone. */
const VISIBILITY_LAG_MS = 15_000;

/** An order to destroy that Vast accepted is not repeated sooner: the row may linger. */
const DESTROY_AGAIN_MS = 20_000;

/** Machines remembered for these two; the oldest are forgotten. */
const MAX_REMEMBERED = 1_000;

/**
 * Interruptible machines of Vast.ai. Spec: the docs of {@link Provider}; wire format and limits: {@link VastApi}. Besides
 * the contract: starting, stopping, bidding, naming, letting keys in, and what the account has left.
 */
export class VastProvider implements Provider {
  readonly name = VAST_PROVIDER_NAME;
  readonly sshAccess: SshAccess = {
    user: 'root',
    hasStartScript: true,
    letIn: (ref, publicKey, options) => this.attachSshKey(ref, publicKey, options),
  };
  readonly #options: VastProviderOptions;
  readonly #listing: VastListing;
  readonly #roster: VastRoster;
  readonly #orders: VastOrders;
  /** Contracts made here a moment ago, with their label and offer. */
  readonly #made = new Map<number, { readonly label: string; readonly offerId: string; readonly atMs: number }>();
  readonly #destroyed = new Map<number, number>();
  readonly #stopAsked = new Set<number>();

  constructor(options: VastProviderOptions) {
    this.#options = options;
    this.#listing = new VastListing(options);
    this.#roster = new VastRoster(options.api, options.clock);
    this.#orders = new VastOrders(options);
  }

  async searchOffers(options: Options): Promise<readonly Offer[]> {
    return this.#listing.offers(options);
  }

  async create(request: CreateRequest, { signal }: Options): Promise<CreateOutcome> {
    const { offer, label } = request;
    const outcome = await this.#orders.place(request, { signal });
    if (outcome.kind !== 'refused') this.#listing.take(offer.offerId);
    if (outcome.kind === 'created') {
      const atMs = this.#options.clock.monotonicMs();
      remember(this.#made, Number(outcome.ref), { label, offerId: offer.offerId, atMs });
    }
    return outcome;
  }

  async show(ref: ProviderRef, { signal }: Options): Promise<ProviderMachine | null> {
    const id = idOf(ref);
    if (id === null) return null;
    const instance = await this.#roster.look(id, { signal });
    return instance === null ? this.#unseen(id) : machineOf(instance, this.#stopAsked.has(id));
  }

  async list({ signal }: Options): Promise<readonly ProviderMachine[]> {
    signal.throwIfAborted();
    const instances = await this.#roster.all({ signal });
    const seen = new Set(instances.map(({ id }) => id));
    const unseen = [...this.#made.keys()].filter((id) => !seen.has(id)).map((id) => this.#unseen(id));
    return [
      ...instances.map((instance) => machineOf(instance, this.#stopAsked.has(instance.id))),
      ...unseen.filter((machine) => machine !== null),
    ];
  }

  async destroy(ref: ProviderRef, { signal }: Options): Promise<void> {
    const { api, clock, log } = this.#options;
    const id = idOf(ref);
    signal.throwIfAborted();
    if (id === null) return;
    const sinceMs = clock.monotonicMs() - (this.#destroyed.get(id) ?? -Infinity);
    if (sinceMs < DESTROY_AGAIN_MS) return;
    await api.destroy(id, { signal });
    this.#roster.forget(id);
    remember(this.#destroyed, id, clock.monotonicMs());
    const made = this.#made.get(id);
    if (made !== undefined) this.#listing.putBack(made.offerId);
    this.#made.delete(id);
    this.#stopAsked.delete(id);
    log.info({ event: 'vast.destroyed', ref }, 'machine destroyed');
  }

  /**
   * Starts a stopped machine. `unavailable` when its GPU is somebody else's now: Vast would queue the start and bill hours
   * later, so it is taken back.
   */
  async start(ref: ProviderRef, options: Options): Promise<'started' | 'unavailable'> {
    const id = requireId(ref);
    const verdict = await this.#options.api.change(id, { state: 'running' }, options);
    if (verdict.kind === 'queued') {
      await this.stop(ref, options);
      return 'unavailable';
    }
    requireDone(verdict, `starting ${ref}`);
    this.#stopAsked.delete(id);
    this.#roster.forget(id);
    return 'started';
  }

  /** Stops a machine; its disk stays and is billed. Until this process ends it then shows as `stopped`. */
  async stop(ref: ProviderRef, options: Options): Promise<void> {
    const id = requireId(ref);
    // Before the call: who looks meanwhile must not take it for outbid.
    this.#stopAsked.add(id);
    requireDone(await this.#options.api.change(id, { state: 'stopped' }, options), `stopping ${ref}`);
    this.#roster.forget(id);
  }

  /** Bids so many micro-dollars per hour for all of a machine from now on. */
  async changeBid(ref: ProviderRef, bidMicroUsdPerHour: number, options: Options): Promise<void> {
    const verdict = await this.#options.api.changeBid(requireId(ref), usd(bidMicroUsdPerHour), options);
    requireDone(verdict, `bidding for ${ref}`);
  }

  /** Names a machine anew. Its label is how the books find it. */
  async rename(ref: ProviderRef, label: string, options: Options): Promise<void> {
    requireDone(await this.#options.api.change(requireId(ref), { label }, options), `naming ${ref}`);
  }

  /** Lets the holder of an OpenSSH public key log in as root. It may take a minute to have effect. */
  async attachSshKey(ref: ProviderRef, publicKey: string, options: Options): Promise<void> {
    const verdict = await this.#options.api.attachSshKey(requireId(ref), publicKey, options);
    requireDone(verdict, `attaching a key to ${ref}`);
  }

  /** Prepaid money left, micro-dollars: at zero every machine stops. Null when Vast does not say. */
  async creditMicroUsd(options: Options): Promise<number | null> {
    const { credit } = await this.#options.api.account(options);
    return credit === null || credit === undefined ? null : microUsd(credit);
  }

  /** A contract that Vast does not show: pending if it was made a moment ago, else there is none. */
  #unseen(id: number): ProviderMachine | null {
    const made = this.#made.get(id);
    if (made === undefined) return null;
    const isFresh = this.#options.clock.monotonicMs() - made.atMs < VISIBILITY_LAG_MS;
    return isFresh ? freshMachine(id, made.label) : null;
  }
}

function remember<Value>(memory: Map<number, Value>, id: number, value: Value): void {
  memory.set(id, value);
  for (const oldest of memory.keys()) {
    if (memory.size <= MAX_REMEMBERED) break;
    memory.delete(oldest);
  }
}

function idOf(ref: ProviderRef): number | null {
  return /^[1-9]\d{0,14}$/.test(ref) ? Number(ref) : null;
}

function requireId(ref: ProviderRef): number {
  const id = idOf(ref);
  if (id === null) throw new DumontError('NOT_FOUND', `Vast.ai has no instance ${ref}`);
  return id;
}

function requireDone(verdict: Verdict, doing: string): void {
  switch (verdict.kind) {
    case 'done':
      return;
    case 'no-instance':
      throw new DumontError('NOT_FOUND', `${doing}: Vast.ai has no such instance`);
    case 'ask-gone':
    case 'queued':
      throw new DumontError('PROVIDER', `${doing}: Vast.ai has no GPU for it now`, { retryable: true });
    case 'key-refused':
    case 'refused':
      throw toDumontError(new Error(verdict.reason), 'PROVIDER', doing);
  }
}
