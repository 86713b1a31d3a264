import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { must } from '@dumont/shared/util/assert.ts';
import { expect } from 'vitest';
import type { VastSimulator } from '../simulators/vast/vast-simulator.ts';
import { eventually } from '../world/eventually.ts';
import { onMachines, VastSite } from '../world/vast-site.ts';

const COMMAND = 'test -f plan || echo the plan of the airship > plan; exec sleep 987651';

onMachines(
  'a workspace on Vast.ai is installed, saved, outbid, moved to another offer and given back, with nothing left behind',
  { timeout: 240_000 },
  async () => {
    await using world = await VastSite.make();
    const { site, vast } = world;
    await using controlPlane = await world.startControlPlane();
    const { client } = site;
    const policy = { raceWidth: 1, snapshotIntervalMs: 500, workload: { command: COMMAND } };
    await client.call('provision', { body: { name: 'airship', policy } });
    const view = () => client.call('getWorkspace', { params: { workspace: 'airship' } });
    const firstId = await world.served('airship');
    const first = await client.call('getInstance', { params: { instanceId: firstId } });
    const firstRef = Number(first.providerRef);
    expect(await planOn(vast, firstRef)).toBe('the plan of the airship\n');
    await eventually('the plan is saved', async () => {
      const { snapshot } = await client.call('takeSnapshot', { body: { workspace: 'airship' } });
      return snapshot === null || snapshot.fileCount > 0;
    });

    vast.inflict({ kind: 'outbid', instance: firstRef });
    const nextId = await eventually(
      'another machine serves it',
      async () => {
        const { primaryInstanceId: id } = await view();
        return id !== null && id !== firstId && id;
      },
      90_000,
    );
    const next = await client.call('getInstance', { params: { instanceId: must(nextId, 'it is there') } });
    expect(next.machineId).not.toBe(first.machineId);
    expect(await planOn(vast, Number(next.providerRef))).toBe('the plan of the airship\n');
    await eventually('the outbid machine is destroyed', () => !vast.account.contracts.has(firstRef), 60_000);

    await eventually(
      'the failover is over',
      async () => {
        const { items } = await client.call('listFailovers', { query: { workspace: 'airship' } });
        return items.length === 1 && items[0]?.success === true;
      },
      60_000,
    );
    await client.call('destroyInstance', { params: { instanceId: next.instanceId } });
    await eventually('nothing is rented', () => vast.account.contracts.size === 0, 60_000);
    expect(vast.account.history.every(({ isBid }) => isBid)).toBe(true);
    expect(new Set(vast.account.history.map(({ label }) => label)).size).toBe(vast.account.history.length);
    expect(vast.throttled).toEqual([]);
    expect(controlPlane.log).not.toContain(vast.apiKey);
  },
);

/** The workload's file on a machine's own disk. */
async function planOn(vast: VastSimulator, id: number): Promise<string | false> {
  const { machine } = must(vast.account.contracts.get(id), 'it is rented');
  return eventually('the workload has begun', () =>
    readFile(join(machine.root, 'workspace/plan'), 'utf8').then(
      (text) => text.endsWith('\n') && text,
      () => false as const,
    ),
  );
}
