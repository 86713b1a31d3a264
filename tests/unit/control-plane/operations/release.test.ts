import { startRelease } from '@dumont/control-plane/operations/start.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { expect, test } from 'vitest';
import { onEachDatabase } from '../../../world/databases.ts';
import { someSnapshot } from '../../../world/rows.ts';
import { OperationsWorld } from './operations-world.ts';

onEachDatabase((database) => {
  test('a stopped primary saves its last state, loses the lease and is proven gone', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    const last = someSnapshot();
    world.agents.answers.snapshot = async () => {
      await world.publish(primary, last);
      return { name: 'snapshot', record: last };
    };
    const id = await startRelease(world.parts, primary, { snapshotFirst: true });
    world.runner.nudge();
    expect((await world.finished(id)).state).toBe('completed');
    expect(await world.workspace(workspaceId)).toMatchObject({
      epoch: 2,
      primaryInstanceId: null,
      endpointInstanceId: null,
      headSnapshotId: last.snapshotId,
    });
    expect(world.agents.commands.slice(-2).map(({ name }) => name)).toEqual(['stop-workload', 'snapshot']);
    expect((await world.instance(primary)).state).toBe('gone');
    expect(world.provider.machines.size).toBe(0);
    expect(await world.failovers(workspaceId)).toEqual([]);
  });

  test('a primary that cannot be saved is kept, and its workload goes on', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    world.agents.answers.snapshot = () => Promise.reject(new DumontError('IO', 'the store is full'));
    const id = await startRelease(world.parts, primary, { snapshotFirst: true });
    world.runner.nudge();
    const { state, error } = await world.finished(id);
    expect(state).toBe('failed');
    expect(error).toMatch(/the machine was kept: the store is full/);
    expect(world.agents.commands.at(-1)).toEqual({ instanceId: primary, name: 'start-workload' });
    expect(await world.workspace(workspaceId)).toMatchObject({ epoch: 1, primaryInstanceId: primary });
    expect((await world.instance(primary)).state).toBe('ready');
  });

  test('without a snapshot a machine is stopped even when its agent is gone', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    world.kill(primary);
    const id = await startRelease(world.parts, primary, { snapshotFirst: false });
    world.runner.nudge();
    expect((await world.finished(id)).state).toBe('completed');
    expect(world.agents.toldTo('stop-workload')).toEqual([]);
    expect((await world.workspace(workspaceId)).primaryInstanceId).toBeNull();
  });

  test('a release whose provider does not answer for a while is finished when it does', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened, { releaseWaitMs: 1_000 }).start();
    const { primary } = await world.served();
    world.provider.isDown = true;
    const id = await startRelease(world.parts, primary, { snapshotFirst: false });
    world.runner.nudge();
    expect((await world.finished(id)).state).toBe('completed');
    expect((await world.instance(primary)).state).toBe('releasing');
    world.provider.isDown = false;
    await world.settled();
    expect((await world.instance(primary)).state).toBe('gone');
    expect(world.provider.machines.size).toBe(0);
  });
});
