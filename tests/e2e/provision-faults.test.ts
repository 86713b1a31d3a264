import { systemClock } from '@dumont/shared/util/clock.ts';
import { expect } from 'vitest';
import { eventually } from '../world/eventually.ts';
import { onMachines, VastSite } from '../world/vast-site.ts';

/** A minute of an outage in the times of this test. */
const OUTAGE_MS = 6_000;

onMachines(
  'orders without an answer, a storm of refusals and an outage of the API end with one machine and nothing left behind',
  { timeout: 300_000 },
  async () => {
    await using world = await VastSite.make();
    const { vast, site } = world;
    await using _controlPlane = await world.startControlPlane();
    vast.inflict({ kind: 'next-orders', how: 'lost-reply' });
    await site.client.call('provision', { body: { name: 'lost-reply', policy: { raceWidth: 2 } } });
    const first = await world.served('lost-reply');
    await world.holdsOnly(1);

    vast.inflict({ kind: 'api-down', how: 'throttled' });
    await site.client.call('provision', { body: { name: 'storm', policy: { strategy: 'roundrobin' } } });
    await systemClock.sleep(OUTAGE_MS);
    vast.inflict({ kind: 'api-up' });
    const second = await world.served('storm');
    await world.holdsOnly(2);

    vast.inflict({ kind: 'next-orders', how: 'on-demand' });
    const { length: ordered } = vast.account.history;
    await site.client.call('provision', { body: { name: 'outage', policy: { strategy: 'coldstart' } } });
    await eventually('a machine is ordered', () => vast.account.history.length > ordered, 60_000);
    expect(vast.account.history.at(-1)?.isBid).toBe(false);
    vast.inflict({ kind: 'api-down', how: 'html-503' });
    await systemClock.sleep(OUTAGE_MS);
    vast.inflict({ kind: 'api-up' });
    const third = await world.served('outage');
    await world.holdsOnly(3);

    // One was made on demand behind our back: it was given back, and serves nobody.
    const rented = [...vast.account.contracts.values()];
    expect(rented.every(({ isBid }) => isBid)).toBe(true);
    expect(new Set(vast.account.history.map(({ label }) => label)).size).toBe(vast.account.history.length);
    for (const instanceId of [first, second, third]) await world.stop(instanceId);
    await world.holdsOnly(0);
  },
);

onMachines(
  'when the preferred kind of GPU is sold out another is taken, and the search says so',
  { timeout: 180_000 },
  async () => {
    await using world = await VastSite.make();
    const { vast, site } = world;
    for (const [offer, { seed }] of vast.market.asks) {
      if (seed.gpu_name === 'RTX 4090') vast.inflict({ kind: 'withdraw', offer });
    }
    await using _controlPlane = await world.startControlPlane();
    const offers = { prefer: { gpuNames: ['RTX 4090'] } };
    const policy = { strategy: 'roundrobin' as const, offers };
    const { operationId } = await site.client.call('provision', { body: { name: 'airship', policy } });
    const instanceId = await world.served('airship');
    const { gpuName } = await site.client.call('getInstance', { params: { instanceId } });
    expect(gpuName).not.toBe('RTX 4090');
    const { steps } = await site.client.call('getOperation', { params: { operationId } });
    const search = steps.find(({ step }) => step === 'searching');
    expect(search?.detail).toMatchObject({ widened: ['gpuNames'] });
    const { items } = await site.client.call('listEvents', { query: { after: 0 } });
    expect(items.find(({ type }) => type === 'placement.widened')?.data).toEqual({ widened: ['gpuNames'] });
    await world.stop(instanceId);
    await world.holdsOnly(0);
  },
);
