import { expect } from 'vitest';
import { onMachines, VastSite } from '../world/vast-site.ts';

/** The cheapest two that fit, and one that is dearer. */
const [CHEAP, NEXT, DEAR] = [31507098, 31511150, 31519254];

onMachines(
  'hosts that never boot or let nobody in are passed over, and one whose start script fails is installed over SSH',
  { timeout: 240_000 },
  async () => {
    await using world = await VastSite.make({ DUMONT_BOOT_DEADLINE_MS: '20000' });
    const { vast, site } = world;
    const behaviours = [
      [CHEAP, 'stuck-loading'],
      [NEXT, 'no-ssh'],
      [DEAR, 'no-start'],
    ] as const;
    world.leaveOnly(new Map(behaviours));
    await using controlPlane = await world.startControlPlane();
    await site.client.call('provision', { body: { name: 'airship', policy: { strategy: 'coldstart' } } });
    const instanceId = await world.served('airship');
    const { machineId } = await site.client.call('getInstance', { params: { instanceId } });
    const { items: events } = await site.client.call('listEvents', { query: { after: 0, workspace: 'airship' } });
    expect(events.filter(({ type }) => type === 'machine.ssh-install').map(({ instanceId: id }) => id)).toEqual([
      instanceId,
    ]);

    const { items: hosts } = await site.client.call('listMachineHistory', { query: {} });
    const good = hosts.find((host) => host.machineId === machineId);
    expect(good).toMatchObject({ rented: 1, ready: 1, failed: 0, successRate: 1, blacklistedUntilMs: null });
    expect(good?.sshMs).toBeGreaterThan(0);
    expect(good?.installMs).toBeGreaterThan(0);
    const bad = hosts.filter((host) => host.machineId !== machineId);
    expect(bad.map(({ rented, ready, failed }) => ({ rented, ready, failed }))).toEqual(
      Array.from({ length: 2 }, () => ({ rented: 1, ready: 0, failed: 1 })),
    );
    expect(controlPlane.log).not.toContain('PRIVATE KEY');
    await world.holdsOnly(1);
    await world.stop(instanceId);
    await world.holdsOnly(0);
    expect(vast.account.history.every(({ isBid }) => isBid)).toBe(true);
    expect(vast.throttled).toEqual([]);
  },
);
