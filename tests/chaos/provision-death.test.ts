import { afterAll, beforeAll, describe, expect } from 'vitest';
import type { Death } from '../world/control-plane-process.ts';
import { onMachines, VastSite } from '../world/vast-site.ts';

/** Workspaces are put on machines of Vast.ai; each time the control plane dies by SIGKILL at another point of the way. */
describe('a control plane that is killed while it rents at Vast.ai', () => {
  const resources = new AsyncDisposableStack();
  let world: VastSite;

  beforeAll(async () => {
    world = resources.use(await VastSite.make());
  });
  afterAll(() => resources.disposeAsync());

  const entering = (step: string, afterMs = 0): Death => ({
    when: { event: 'operation.step', kind: 'provision', to: step },
    afterMs,
  });

  onMachines.for([
    ['before it rents', entering('provisioning')],
    ['when an order is on its way', entering('provisioning', 60)],
    ['when a machine is rented', entering('provisioning', 400)],
    ['while machines boot', entering('provisioning', 3_000)],
    ['before it promotes', entering('promoting')],
    ['before it points users at the machine', entering('switching')],
  ] as const)(
    'rents one machine and leaves none behind when it dies %s',
    { timeout: 180_000 },
    async ([where, death]) => {
      const { vast, site } = world;
      const name = where.replaceAll(' ', '-');
      {
        await using dying = await world.startControlPlane(death);
        dying.arm();
        await site.client.call('provision', { body: { name, policy: { raceWidth: 2 } } });
        await dying.died(90_000);
      }
      await using _controlPlane = await world.startControlPlane();
      const instanceId = await world.served(name);
      await world.holdsOnly(1);
      const { providerRef } = await site.client.call('getInstance', { params: { instanceId } });
      expect([...vast.account.contracts.keys()].map(String)).toEqual([providerRef]);
      const labels = vast.account.history.map(({ label }) => label);
      expect(new Set(labels).size).toBe(labels.length);
      expect(vast.account.history.every(({ isBid }) => isBid)).toBe(true);
      await world.stop(instanceId);
      await world.holdsOnly(0);
    },
  );
});
