import { expect, test } from 'vitest';
import type { InstanceId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { onEachDatabase } from '../../../world/databases.ts';
import { eventually } from '../../../world/eventually.ts';
import { someOffer } from '../../../world/rows.ts';
import { OperationsWorld } from './operations-world.ts';

const WITH_STANDBY = {
  // It gets one by what it does.
  workload: { command: 'train', kind: 'training' },
  standby: { maxPriceMicroUsdPerHour: 1_000_000 },
} as const;

function standbyOf(world: OperationsWorld, workspaceId: WorkspaceId, besides?: InstanceId): Promise<InstanceId> {
  return eventually('the workspace has a standby', async () => {
    const { standbyInstanceId } = await world.workspace(workspaceId);
    return standbyInstanceId !== besides && standbyInstanceId;
  });
}

onEachDatabase((database) => {
  test('a workspace gets a standby, and both ends are told of each other with a token of this epoch', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served('w', WITH_STANDBY);
    const standby = await standbyOf(world, workspaceId);
    const [send, receive] = await eventually('both were told', () => {
      const parts = [primary, standby].map((id) => world.agents.assignments.get(id)?.sync);
      return parts.every((part) => part !== undefined) && parts;
    });
    expect(send).toMatchObject({ role: 'send', url: 'wss://10.0.0.9:4000', epoch: 1 });
    expect(receive).toMatchObject({ role: 'receive', port: 8_767, epoch: 1, token: send?.token });
    // Nothing else is its business, and nobody takes it for forgotten.
    expect(world.agents.assignments.get(standby)?.standing).toBe('standby');
    await world.sweeper.sweep();
    expect((await world.instance(standby)).state).toBe('ready');
  });

  test('of offers that cost the same, the standby is the one nearest to its primary', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened);
    const regions = ['europe-west3-a', 'us-west4-a', 'asia-east1-a', 'Atlantis', 'europe-west4-a', 'us-east4-a'];
    world.provider.offers = regions.map((region, index) =>
      someOffer({ provider: 'memory', offerId: `offer-${index}`, machineId: `host-${index}`, region }),
    );
    world.start();
    const { workspaceId } = await world.served('w', { ...WITH_STANDBY, strategy: 'coldstart' });
    await standbyOf(world, workspaceId);
    expect(world.provider.orders.map(({ offer }) => offer.region)).toEqual(['europe-west3-a', 'europe-west4-a']);
  });

  test('a standby that is lost is replaced: nothing is fenced, nothing moves', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served('w', WITH_STANDBY);
    const standby = await standbyOf(world, workspaceId);
    world.kill(standby);
    const next = await standbyOf(world, workspaceId, standby);
    expect(next).not.toBe(standby);
    expect(await world.workspace(workspaceId)).toMatchObject({ epoch: 1, primaryInstanceId: primary });
    expect(await world.failovers(workspaceId)).toEqual([]);
    await eventually('it is given back', async () => (await world.instance(standby)).state === 'gone');
  });
});
