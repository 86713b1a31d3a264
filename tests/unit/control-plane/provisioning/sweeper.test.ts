import { expect, test } from 'vitest';
import { promotePrimary, setEndpoint } from '@dumont/control-plane/store/workspaces.ts';
import { onEachDatabase } from '../../../world/databases.ts';
import { LABEL_PREFIX, LedgerWorld } from './ledger-world.ts';

onEachDatabase((database) => {
  test('a released machine is destroyed and leaves the books when the provider has denied it twice', async () => {
    await using opened = await database.open();
    const world = await LedgerWorld.make(opened.db);
    const instanceId = await world.rent();
    await world.renter.release(instanceId, 'enough');
    expect(await world.sweep()).toBe(1);
    expect(world.provider.machines.size).toBe(0);
    expect(await world.ledger(instanceId)).toMatchObject({ goneConfirmations: 1, goneAtMs: null });
    expect((await world.instance(instanceId)).state).toBe('releasing');
    expect(await world.sweep()).toBe(0);
    expect(await world.ledger(instanceId)).toMatchObject({ goneAtMs: world.clock.nowMs(), outcome: 'enough' });
    expect((await world.instance(instanceId)).state).toBe('gone');
    expect(world.gone).toEqual([instanceId]);
    expect((await world.events()).at(-1)).toBe('machine.gone');
    expect(await world.sweep()).toBe(0);
    expect(world.gone).toEqual([instanceId]);
  });

  test('a machine that shows again after a denial starts the count anew', async () => {
    await using opened = await database.open();
    const world = await LedgerWorld.make(opened.db);
    const instanceId = await world.rent();
    await world.renter.release(instanceId, 'enough');
    await world.sweep();
    world.provider.isSlow = true;
    world.provider.put('ref-1', `${LABEL_PREFIX}${instanceId}`);
    expect(await world.sweep()).toBe(1);
    expect((await world.ledger(instanceId)).goneConfirmations).toBe(0);
    world.provider.isSlow = false;
    expect(await world.sweep()).toBe(1);
    expect(await world.sweep()).toBe(0);
  });

  test('a provider that fails is asked again for ever, and holds up nobody else', async () => {
    await using opened = await database.open();
    const world = await LedgerWorld.make(opened.db);
    const instanceId = await world.rent();
    await world.renter.release(instanceId, 'enough');
    world.provider.isDown = true;
    expect(await world.sweep(50)).toBe(1);
    await world.sweepAfterIdling();
    expect(await world.ledger(instanceId)).toMatchObject({ goneConfirmations: 0, goneAtMs: null });
    world.provider.isDown = false;
    expect(await world.sweep(2)).toBe(0);
    expect(world.provider.machines.size).toBe(0);
  });

  test('a machine of a provider that is not configured any more stays in the books', async () => {
    await using opened = await database.open();
    const world = await LedgerWorld.make(opened.db);
    const instanceId = await world.rent();
    await world.renter.release(instanceId, 'enough');
    await world.db.query("update ledger set provider = 'bankrupt' where instance_id = $1", [instanceId]);
    expect(await world.sweep(3)).toBe(1);
  });

  test('a stranger with our label is destroyed; a foreign label and a machine in the books are left alone', async () => {
    await using opened = await database.open();
    const world = await LedgerWorld.make(opened.db);
    await world.rent();
    world.provider.put('stranger', `${LABEL_PREFIX}in_00000000000000000000`);
    world.provider.put('foreign', 'somebody-elses-machine');
    world.provider.put('other-installation', 'dumont-other-in_00000000000000000000');
    await world.sweepAfterIdling();
    expect(world.provider.destroyed).toEqual(['stranger']);
    expect([...world.provider.machines.keys()]).toEqual(['ref-1', 'foreign', 'other-installation']);
  });

  test('a machine that appears after its row was closed is a stranger', async () => {
    await using opened = await database.open();
    const world = await LedgerWorld.make(opened.db);
    world.provider.fate = 'throws without a machine';
    await world.renter.rent(world.provider.offer, world.signal);
    await world.sweep(2);
    world.provider.put('late', `${LABEL_PREFIX}${world.ordered}`);
    await world.sweepAfterIdling();
    expect(world.provider.destroyed).toEqual(['late']);
  });

  test('a machine that nobody holds any more is given back; one in use or in the making is not', async () => {
    await using opened = await database.open();
    const world = await LedgerWorld.make(opened.db);
    const [forgotten, primary, endpoint] = [await world.rent(), await world.rent(), await world.rent()];
    await promotePrimary(world.db, world.workspaceId, primary, 0);
    await setEndpoint(world.db, world.workspaceId, endpoint);
    await world.sweepAfterIdling();
    expect(world.provider.machines.size).toBe(3);

    await world.finishOperation();
    await world.sweepAfterIdling();
    await world.sweep(2);
    expect([...world.provider.machines.keys()]).toEqual(['ref-2', 'ref-3']);
    expect(world.gone).toEqual([forgotten]);
  });

  test('its loop acts at once on a nudge, and ends when disposed', async () => {
    await using opened = await database.open();
    const world = await LedgerWorld.make(opened.db);
    const instanceId = await world.rent();
    {
      await using sweeper = world.sweeper;
      sweeper.start();
      await world.renter.release(instanceId, 'enough');
      sweeper.nudge();
      await expect.poll(() => world.provider.destroyed.length).toBeGreaterThan(0);
    }
    const { length } = world.provider.destroyed;
    await world.clock.advance(60_000);
    expect(world.provider.destroyed).toHaveLength(length);
  });
});
