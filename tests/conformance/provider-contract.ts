import { must } from '@dumont/shared/util/assert.ts';
import type { Provider, ProviderMachine } from '@dumont/control-plane/providers/provider.ts';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { eventually, probe } from './provider-world.ts';

/** One account at one provider, with nothing rented. */
export interface ProviderWorld extends AsyncDisposable {
  readonly provider: Provider;
  /** Another object on the same account, as after a restart of the control plane. */
  another(): Provider;
  readonly agentEnvironment: Readonly<Record<string, string>>;
}

const { signal } = new AbortController();

/** What every provider must do, whatever is behind it. */
export function describeProvider(name: string, openWorld: () => Promise<ProviderWorld>): void {
  describe(`the ${name} provider`, () => {
    let world: ProviderWorld;
    beforeEach(async () => {
      world = await openWorld();
    });
    afterEach(() => world[Symbol.asyncDispose]());

    const firstOffer = async () =>
      must((await world.provider.searchOffers({ signal }))[0], 'an empty account finds offers');
    const rent = async (label: string) => {
      const offer = await firstOffer();
      const outcome = await world.provider.create(
        { offer, label, agentEnvironment: world.agentEnvironment },
        { signal },
      );
      if (outcome.kind !== 'created') throw new Error(`renting gave ${outcome.kind}`);
      return { offer, ref: outcome.ref };
    };
    const shown = (ref: string) => world.provider.show(ref, { signal });

    test('lists offers under its own name, each once, with a price', async () => {
      const offers = await world.provider.searchOffers({ signal });
      expect(new Set(offers.map((offer) => offer.offerId)).size).toBe(offers.length);
      for (const offer of offers) {
        expect(offer.provider).toBe(world.provider.name);
        expect(Number.isInteger(offer.priceMicroUsdPerHour) && offer.priceMicroUsdPerHour > 0).toBe(true);
        expect(offer.reliability).toBeGreaterThanOrEqual(0);
        expect(offer.reliability).toBeLessThanOrEqual(1);
      }
    });

    test('a machine is pending until it runs, never goes back, and then answers a probe', async () => {
      const { ref } = await rent('life');
      const seen: ProviderMachine['status'][] = [];
      const running = await eventually('the machine to run', async () => {
        const machine = must(await shown(ref), 'a rented machine exists');
        if (seen.at(-1) !== machine.status) seen.push(machine.status);
        return machine.status === 'running' && machine;
      });
      expect(seen).toEqual(['pending', 'running']);
      expect(await probe(must(running.probe, 'a running machine has an address'), 5_000)).toBe('answered');
    });

    test('the same label twice gives the same machine, also at the same moment', async () => {
      const offer = await firstOffer();
      const order = { offer, label: 'twice', agentEnvironment: world.agentEnvironment };
      const other = world.another();
      const outcomes = await Promise.all([
        world.provider.create(order, { signal }),
        world.provider.create(order, { signal }),
        other.create(order, { signal }),
      ]);
      outcomes.push(await other.create(order, { signal }));
      expect(new Set(outcomes.map((outcome) => outcome.kind))).toEqual(new Set(['created']));
      expect(new Set(outcomes.map((outcome) => (outcome.kind === 'created' ? outcome.ref : ''))).size).toBe(1);
      const machines = await world.provider.list({ signal });
      expect(machines.filter((machine) => machine.label === 'twice')).toHaveLength(1);
    });

    test('the list has a machine as soon as it was created, under its label', async () => {
      const { ref } = await rent('listed');
      const machines = await world.provider.list({ signal });
      expect(machines.map(({ ref, label }) => ({ ref, label }))).toEqual([{ ref, label: 'listed' }]);
    });

    test('a rented offer is not listed, and ordering it again answers offer-gone', async () => {
      const { offer } = await rent('first');
      const offers = await world.provider.searchOffers({ signal });
      expect(offers.map((other) => other.offerId)).not.toContain(offer.offerId);
      const again = { offer, label: 'second', agentEnvironment: world.agentEnvironment };
      expect(await world.provider.create(again, { signal })).toEqual({ kind: 'offer-gone' });
      expect(await world.provider.list({ signal })).toHaveLength(1);
    });

    test('another provider object on the account sees and destroys the machine', async () => {
      const { ref } = await rent('shared');
      const other = world.another();
      expect(await other.show(ref, { signal })).toMatchObject({ ref, label: 'shared' });
      await other.destroy(ref, { signal });
      expect(await eventually('the end', async () => (await shown(ref)) === null)).toBe(true);
    });

    test('destroying is proven by show and list, puts the offer back, and may be asked again', async () => {
      const { ref, offer } = await rent('brief');
      await Promise.all([world.provider.destroy(ref, { signal }), world.provider.destroy(ref, { signal })]);
      await eventually('the end', async () => (await shown(ref)) === null);
      await world.provider.destroy(ref, { signal });
      expect(await world.provider.list({ signal })).toEqual([]);
      const offers = await world.provider.searchOffers({ signal });
      expect(offers.map((other) => other.offerId)).toContain(offer.offerId);
    });

    test('an unknown machine is null to show and a success to destroy', async () => {
      for (const ref of ['1', 'no-such-machine', '../..', '']) {
        expect(await shown(ref)).toBeNull();
        await world.provider.destroy(ref, { signal });
      }
    });

    test('an aborted call rents nothing', async () => {
      const offer = await firstOffer();
      const order = { offer, label: 'aborted', agentEnvironment: world.agentEnvironment };
      await expect(world.provider.create(order, { signal: AbortSignal.abort() })).rejects.toThrow();
      expect(await world.provider.list({ signal })).toEqual([]);
    });
  });
}
