import type {
  CreateOutcome,
  CreateRequest,
  Provider,
  ProviderMachine,
} from '@dumont/control-plane/providers/provider.ts';
import type { Offer } from '@dumont/shared/model/offer.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { someOffer } from './rows.ts';

/** What an order comes to: `lost-answer` creates the machine and throws all the same. */
export type OrderFate = 'created' | 'refused' | 'offer-gone' | 'throws' | 'lost-answer';

type CallOptions = Partial<Parameters<Provider['list']>[0]>;

/** A market in memory whose answers a test writes; its machines boot by a callback. */
export class MemoryProvider implements Provider {
  readonly name: string = 'memory';
  offers: Offer[];
  /** Fates of the next orders, then `created`. */
  readonly fates: OrderFate[] = [];
  readonly machines = new Map<string, ProviderMachine>();
  readonly orders: CreateRequest[] = [];
  /** Calls to `destroy`, by label. */
  readonly destroyed: string[] = [];
  /** While set, orders wait for it before they are answered. */
  gate: Promise<void> | undefined;
  /** While true every call but `create` throws. */
  isDown = false;
  readonly #onCreated: (request: CreateRequest) => void;
  #count = 0;

  constructor(onCreated: (request: CreateRequest) => void = () => {}, hostCount = 20) {
    this.#onCreated = onCreated;
    this.offers = Array.from({ length: hostCount }, (_, index) =>
      someOffer({ provider: 'memory', offerId: `offer-${index}`, machineId: `host-${index}` }),
    );
  }

  async searchOffers(): Promise<readonly Offer[]> {
    this.#answer();
    return this.offers;
  }

  async create(request: CreateRequest, { signal }: { readonly signal: AbortSignal }): Promise<CreateOutcome> {
    signal.throwIfAborted();
    this.orders.push(request);
    const fate = this.fates.shift() ?? 'created';
    if (this.gate !== undefined) await Promise.race([this.gate, rejectionOf(signal)]);
    signal.throwIfAborted();
    if (fate === 'refused') return { kind: 'refused', reason: 'no' };
    if (fate === 'offer-gone') return { kind: 'offer-gone' };
    if (fate === 'throws') throw new DumontError('PROVIDER', 'no answer to the order');
    this.#count += 1;
    const ref = `machine-${this.#count}`;
    this.place(ref, request.label);
    if (fate === 'lost-answer') throw new DumontError('PROVIDER', 'the answer was lost');
    this.#onCreated(request);
    return { kind: 'created', ref };
  }

  /** Puts a machine into the account, ours or a stranger's. */
  place(ref: string, label: string): void {
    this.machines.set(ref, {
      ref,
      label,
      status: 'running',
      rawStatus: 'up',
      statusMessage: null,
      probe: null,
      ssh: null,
      ports: new Map(),
    });
  }

  async show(ref: string, _options?: CallOptions): Promise<ProviderMachine | null> {
    this.#answer();
    return this.machines.get(ref) ?? null;
  }

  async list(_options?: CallOptions): Promise<readonly ProviderMachine[]> {
    this.#answer();
    return [...this.machines.values()];
  }

  async destroy(ref: string): Promise<void> {
    this.#answer();
    const machine = this.machines.get(ref);
    if (machine === undefined) return;
    this.destroyed.push(machine.label);
    this.machines.delete(ref);
  }

  #answer(): void {
    if (this.isDown) throw new DumontError('UNAVAILABLE', 'the provider does not answer', { retryable: true });
  }
}

function rejectionOf(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });
}
