import { LOCAL_MARKET } from '@dumont/control-plane/providers/local/market.ts';
import type {
  CreateOutcome,
  CreateRequest,
  MachineStatus,
  Provider,
  ProviderMachine,
} from '@dumont/control-plane/providers/provider.ts';
import type { Offer } from '@dumont/shared/model/offer.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';

/** What the next order meets; the two throws differ in whether a machine exists afterwards. */
export type OrderFate = 'created' | 'refused' | 'offer-gone' | 'throws without a machine' | 'throws with a machine';

/** A marketplace whose answers a test writes: machines are entries of a map. */
export class ScriptedProvider implements Provider {
  readonly name = 'local';
  readonly machines = new Map<string, { readonly label: string; status: MachineStatus }>();
  readonly orders: CreateRequest[] = [];
  readonly destroyed: string[] = [];
  fate: OrderFate = 'created';
  /** Called while an order is under way. */
  duringCreate: () => Promise<void> = () => Promise.resolve();
  /** Calls other than orders fail while this is set. */
  isDown = false;
  /** Destroyed machines stay listed while this is set. */
  isSlow = false;

  get offer(): Offer {
    return must(LOCAL_MARKET[0], 'the market has offers').offer;
  }

  /** Puts a machine there behind everybody's back. */
  put(ref: string, label: string): void {
    this.machines.set(ref, { label, status: 'running' });
  }

  searchOffers(): Promise<readonly Offer[]> {
    return Promise.resolve([this.offer]);
  }

  async create(request: CreateRequest): Promise<CreateOutcome> {
    this.orders.push(request);
    await this.duringCreate();
    const ref = `ref-${this.orders.length}`;
    if (this.fate === 'refused') return { kind: 'refused', reason: 'not today' };
    if (this.fate === 'offer-gone') return { kind: 'offer-gone' };
    if (this.fate !== 'throws without a machine') this.put(ref, request.label);
    if (this.fate !== 'created') throw new DumontError('UNAVAILABLE', 'the answer got lost');
    return { kind: 'created', ref };
  }

  async show(ref: string): Promise<ProviderMachine | null> {
    return (await this.list()).find((machine) => machine.ref === ref) ?? null;
  }

  list(): Promise<readonly ProviderMachine[]> {
    if (this.isDown) return Promise.reject(new DumontError('UNAVAILABLE', 'the provider does not answer'));
    const machines = [...this.machines].map(([ref, { label, status }]) => {
      return { ref, label, status, rawStatus: status, statusMessage: null, probe: null };
    });
    return Promise.resolve(machines);
  }

  destroy(ref: string): Promise<void> {
    if (this.isDown) return Promise.reject(new DumontError('UNAVAILABLE', 'the provider does not answer'));
    this.destroyed.push(ref);
    if (!this.isSlow) this.machines.delete(ref);
    return Promise.resolve();
  }
}
