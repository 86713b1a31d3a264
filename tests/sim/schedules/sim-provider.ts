import type {
  CreateOutcome,
  CreateRequest,
  Provider,
  ProviderMachine,
} from '@dumont/control-plane/providers/provider.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import { someOffer } from '../../world/rows.ts';
import { SimMachine } from './sim-machine.ts';

/** More than a batch of workspaces ever holds at a time. */
const HOSTS = 400;
const ANSWER_MS = 20;
const ANSWER_SPREAD_MS = 80;

/** What an order meets: `lost-answer` creates the machine and throws all the same. */
export type OrderFault = 'refused' | 'offer-gone' | 'throws' | 'lost-answer';

/** A market in memory: answers after a moment, fails when told to, and lies about machines when told to. */
export class SimProvider implements Provider {
  readonly name = 'memory';
  readonly machines = new Map<string, SimMachine>();
  /** Of the next orders. */
  readonly orderFaults: OrderFault[] = [];
  readonly lies = new Map<string, 'running' | 'gone'>();
  /** Machines that cannot be destroyed until these times, by reference. */
  readonly keptUntilMs = new Map<string, number>();
  /** Nothing but errors until this time. */
  downUntilMs = 0;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #boot: (machine: SimMachine) => void;
  readonly #offers = Array.from({ length: HOSTS }, (_, index) =>
    someOffer({
      provider: 'memory',
      offerId: `offer-${index}`,
      machineId: `host-${index}`,
      priceMicroUsdPerHour: 50_000,
    }),
  );
  #count = 0;

  constructor(parts: { readonly clock: Clock; readonly random: Random; readonly boot: (machine: SimMachine) => void }) {
    this.#clock = parts.clock;
    this.#random = parts.random;
    this.#boot = parts.boot;
  }

  async searchOffers({ signal }: { readonly signal: AbortSignal }) {
    await this.#answer(signal);
    return this.#offers;
  }

  async create(request: CreateRequest, { signal }: { readonly signal: AbortSignal }): Promise<CreateOutcome> {
    await this.#answer(signal);
    const known = [...this.machines.values()].find(({ label }) => label === request.label);
    if (known !== undefined) return { kind: 'created', ref: known.ref };
    const fault = this.orderFaults.shift();
    if (fault === 'refused') return { kind: 'refused', reason: 'the host says no' };
    if (fault === 'offer-gone') return { kind: 'offer-gone' };
    if (fault === 'throws') throw new DumontError('PROVIDER', 'no answer to the order');
    this.#count += 1;
    const ref = `machine-${this.#count}`;
    const enrolToken = must(request.agentEnvironment['DUMONT_ENROL_TOKEN'], 'a machine gets a token');
    const machine = new SimMachine({
      ref,
      label: request.label,
      enrolToken,
      credential: `credential-of-${ref}-`.padEnd(48, '0'),
    });
    this.machines.set(ref, machine);
    this.#boot(machine);
    if (fault === 'lost-answer') throw new DumontError('PROVIDER', 'the answer was lost');
    return { kind: 'created', ref };
  }

  async show(ref: string, { signal }: { readonly signal: AbortSignal }): Promise<ProviderMachine | null> {
    await this.#answer(signal);
    const machine = this.machines.get(ref);
    if (machine === undefined || this.lies.get(ref) === 'gone') return null;
    const status = machine.isAlive || this.lies.get(ref) === 'running' ? 'running' : 'interrupted';
    const nowhere = { probe: null, ssh: null, ports: new Map() };
    return { ref, label: machine.label, status, rawStatus: status, statusMessage: null, ...nowhere };
  }

  async list({ signal }: { readonly signal: AbortSignal }): Promise<readonly ProviderMachine[]> {
    await this.#answer(signal);
    const shown = await Promise.all([...this.machines.keys()].map((ref) => this.show(ref, { signal })));
    return shown.filter((machine) => machine !== null);
  }

  async destroy(ref: string, { signal }: { readonly signal: AbortSignal }): Promise<void> {
    await this.#answer(signal);
    if (this.#clock.monotonicMs() < (this.keptUntilMs.get(ref) ?? 0)) {
      throw new DumontError('UNAVAILABLE', 'it cannot be destroyed now', { retryable: true });
    }
    const machine = this.machines.get(ref);
    if (machine !== undefined) machine.isAlive = false;
    this.machines.delete(ref);
    this.lies.delete(ref);
  }

  async #answer(signal: AbortSignal): Promise<void> {
    await this.#clock.sleep(ANSWER_MS + ANSWER_SPREAD_MS * this.#random.next(), signal);
    if (this.#clock.monotonicMs() < this.downUntilMs) {
      throw new DumontError('UNAVAILABLE', 'the provider does not answer', { retryable: true });
    }
  }
}
