import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { ProviderRegistry } from '../providers/provider.ts';
import type { Database } from '../store/database.ts';
import { findInstance } from '../store/instances.ts';
import type { MachineLocation } from './corroborate.ts';

/** A fleet's worth of addresses; the oldest are dropped and looked up again when needed. */
const MAX_REMEMBERED = 50_000;

/**
 * Where second opinions about an instance can be had. Addresses are learnt while the machine is well, because a lost
 * one must be probed within milliseconds.
 */
export class MachineLocator {
  readonly #db: Database;
  readonly #providers: ProviderRegistry;
  readonly #known = new Map<InstanceId, MachineLocation>();

  constructor(parts: { readonly db: Database; readonly providers: ProviderRegistry }) {
    this.#db = parts.db;
    this.#providers = parts.providers;
  }

  /** The location, from memory where it is complete; null for an instance without a machine. */
  async locate(instanceId: InstanceId, options: { readonly signal: AbortSignal }): Promise<MachineLocation | null> {
    const known = this.#known.get(instanceId);
    if (known !== undefined && known.probe !== null) return known;
    const instance = await findInstance(this.#db, instanceId);
    const provider = instance === undefined ? undefined : this.#providers.get(instance.offer.provider);
    const ref = instance?.providerRef ?? null;
    if (provider === undefined || ref === null) return null;
    const machine = await provider.show(ref, options);
    const location: MachineLocation = { probe: machine?.probe ?? null, show: (how) => provider.show(ref, how) };
    this.#remember(instanceId, location);
    return location;
  }

  forget(instanceId: InstanceId): void {
    this.#known.delete(instanceId);
  }

  #remember(instanceId: InstanceId, location: MachineLocation): void {
    this.#known.set(instanceId, location);
    for (const oldest of this.#known.keys()) {
      if (this.#known.size <= MAX_REMEMBERED) break;
      this.#known.delete(oldest);
    }
  }
}
