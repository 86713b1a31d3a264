import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { MachineAddress, ProviderRegistry } from '../providers/provider.ts';
import type { Database } from '../store/database.ts';
import { findInstance } from '../store/instances.ts';

/** Where the services of one machine are reached. */
export interface MachineEndpoints {
  readonly ssh: MachineAddress | null;
  /** By the port the workload listens on. */
  readonly ports: ReadonlyMap<number, MachineAddress>;
}

/** A fleet's worth of addresses; the oldest are dropped and asked for again when needed. */
const MAX_REMEMBERED = 50_000;
/** Between two questions about one machine: providers bill questions to a rate limit. */
const MIN_ASK_GAP_MS = 1_000;
/** A provider that takes longer is asked again. */
const ASK_TIMEOUT_MS = 10_000;

interface Remembered {
  readonly endpoints: Promise<MachineEndpoints | null>;
  readonly askedAtMs: number;
  isComplete: boolean;
}

/**
 * Addresses of machines, from their providers. They are learnt while a machine is prepared, because users are pointed
 * at it within milliseconds of the commit and a provider's answer takes longer.
 */
export class EndpointBook {
  readonly #db: Database;
  readonly #providers: ProviderRegistry;
  readonly #clock: Clock;
  readonly #known = new Map<InstanceId, Remembered>();

  constructor(parts: { readonly db: Database; readonly providers: ProviderRegistry; readonly clock: Clock }) {
    this.#db = parts.db;
    this.#providers = parts.providers;
    this.#clock = parts.clock;
  }

  /** From memory where it is complete; null while the provider tells no address. Never rejects. */
  locate(instanceId: InstanceId): Promise<MachineEndpoints | null> {
    const known = this.#known.get(instanceId);
    const nowMs = this.#clock.monotonicMs();
    if (known !== undefined && (known.isComplete || nowMs - known.askedAtMs < MIN_ASK_GAP_MS)) return known.endpoints;
    const remembered: Remembered = {
      askedAtMs: nowMs,
      isComplete: false,
      // Whoever asks meets the same outcome as for a machine that is not up yet: no address, ask again.
      endpoints: this.#ask(instanceId).catch(() => null),
    };
    void remembered.endpoints.then((endpoints) => {
      remembered.isComplete = endpoints !== null;
    });
    this.#known.delete(instanceId);
    this.#known.set(instanceId, remembered);
    for (const oldest of this.#known.keys()) {
      if (this.#known.size <= MAX_REMEMBERED) break;
      this.#known.delete(oldest);
    }
    return remembered.endpoints;
  }

  /** Its addresses led nowhere: a provider may have changed them. */
  doubt(instanceId: InstanceId): void {
    const known = this.#known.get(instanceId);
    if (known !== undefined) known.isComplete = false;
  }

  async #ask(instanceId: InstanceId): Promise<MachineEndpoints | null> {
    const instance = await findInstance(this.#db, instanceId);
    const provider = instance === undefined ? undefined : this.#providers.get(instance.offer.provider);
    const ref = instance?.providerRef ?? null;
    if (provider === undefined || ref === null) return null;
    const machine = await provider.show(ref, { signal: AbortSignal.timeout(ASK_TIMEOUT_MS) });
    if (machine === null || machine.status !== 'running') return null;
    return { ssh: machine.ssh, ports: machine.ports };
  }
}
