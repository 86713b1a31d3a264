import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { Offer } from '@dumont/shared/model/offer.ts';
import type { CreateOutcome, Provider, ProviderMachine, ProviderRef } from '../provider.ts';

/** Provider name of machines that their owner brings. */
export const OWN_PROVIDER_NAME = 'own';

/** What is known of such a machine before its agent speaks: it costs nothing, and no market lists it. Pure. */
export function ownOffer(instanceId: InstanceId): Offer {
  return {
    provider: OWN_PROVIDER_NAME,
    offerId: `own-${instanceId}`,
    machineId: `own-${instanceId}`,
    gpuName: 'own machine',
    gpuCount: 0,
    diskGb: 0,
    priceMicroUsdPerHour: 0,
    reliability: 1,
    region: 'own',
    kind: 'on-demand',
  };
}

/**
 * Machines that their owner brings: nobody rents them out, nobody takes them away, nobody can say whether they live.
 * They exist for us from `POST /machines` until they are given back; the reference is the instance id.
 */
export class OwnProvider implements Provider {
  readonly name = OWN_PROVIDER_NAME;
  readonly #isHeld: (ref: ProviderRef) => Promise<boolean>;

  /** @param isHeld whether the books have the machine, and nobody asked to give it back */
  constructor(isHeld: (ref: ProviderRef) => Promise<boolean>) {
    this.#isHeld = isHeld;
  }

  searchOffers(): Promise<readonly Offer[]> {
    return Promise.resolve([]);
  }

  create(): Promise<CreateOutcome> {
    return Promise.resolve({ kind: 'refused', reason: "a machine of one's own is added, not rented" });
  }

  /** `running` for one that is held: no evidence of anything. */
  async show(ref: ProviderRef): Promise<ProviderMachine | null> {
    if (!(await this.#isHeld(ref))) return null;
    return {
      ref,
      label: ref,
      status: 'running',
      rawStatus: null,
      statusMessage: null,
      probe: null,
      ssh: null,
      ports: new Map(),
    };
  }

  /** None: every machine of this kind is in the books, so there are no strangers to find. */
  list(): Promise<readonly ProviderMachine[]> {
    return Promise.resolve([]);
  }

  /** Nothing to destroy: the agent is told that it was released, and the owner keeps the machine. */
  destroy(): Promise<void> {
    return Promise.resolve();
  }
}
