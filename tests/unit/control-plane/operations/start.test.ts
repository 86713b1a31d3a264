import {
  startFailover,
  startProvision,
  startRelease,
  triggerFailover,
} from '@dumont/control-plane/operations/start.ts';
import { takeSnapshot } from '@dumont/control-plane/operations/take-snapshot.ts';
import { listEvents } from '@dumont/control-plane/store/events.ts';
import { provisionBodySchema } from '@dumont/shared/api/endpoints.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { expect, test } from 'vitest';
import { onEachDatabase } from '../../../world/databases.ts';
import { someSnapshot } from '../../../world/rows.ts';
import { OperationsWorld } from './operations-world.ts';

const body = provisionBodySchema.parse({ name: 'mine' });

onEachDatabase((database) => {
  test('a workspace name is given once, and the second caller is told which field to change', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened);
    await startProvision(world.parts, body, 'file');
    await expect(startProvision(world.parts, body, 'file')).rejects.toMatchObject({ code: 'CONFLICT', field: 'name' });
    expect(await world.truth.query('select name from workspaces')).toEqual([{ name: 'mine' }]);
  });

  test('an initial snapshot is the head of the new workspace, under the id it was made for', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened);
    const snapshot = someSnapshot(newId('snapshot'));
    const initial = { workspaceId: newId('workspace'), snapshot };
    const { workspaceId } = await startProvision(world.parts, { ...body, initial }, 'file');
    expect(workspaceId).toBe(initial.workspaceId);
    expect((await world.workspace(workspaceId)).headSnapshotId).toBe(snapshot.snapshotId);
    // The same snapshot under another name would be two owners of one lineage.
    const again = { ...body, name: 'other', initial: { workspaceId: newId('workspace'), snapshot } };
    await expect(startProvision(world.parts, again, 'file')).rejects.toMatchObject({ code: 'CONFLICT' });
  });

  test('one operation moves a workspace at a time, whoever asks', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    world.provider.gate = new Promise(() => {});
    const id = await triggerFailover(world.parts, workspaceId, 'first');
    await expect(triggerFailover(world.parts, workspaceId, 'second')).rejects.toMatchObject({
      code: 'CONFLICT',
      retryable: true,
    });
    await expect(startRelease(world.parts, primary, { snapshotFirst: true })).rejects.toMatchObject({
      code: 'CONFLICT',
    });
    const started = await startFailover(world.parts, {
      workspaceId,
      data: {
        trigger: 'detector',
        reason: 'silence',
        fromInstanceId: primary,
        silenceBeganAtMs: 0,
        confirmedAtMs: 0,
        detectMs: 0,
      },
    });
    expect(started).toBeUndefined();
    // The refused start left no trace: neither the loss nor a line of history.
    expect((await world.instance(primary)).state).toBe('ready');
    const events = await listEvents(world.truth, { after: 0, limit: 500 });
    const starts = events.filter(({ type }) => type === 'failover.started');
    expect(starts.map(({ operationId }) => operationId)).toEqual([id]);
  });

  test('a failover that the detector starts marks its machine lost in the same breath', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    await world.runner[Symbol.asyncDispose]();
    const times = { silenceBeganAtMs: 1, confirmedAtMs: 2, detectMs: 1 };
    const data = { trigger: 'detector', reason: 'silence', fromInstanceId: primary, ...times } as const;
    expect(await startFailover(world.parts, { workspaceId, data })).toBeDefined();
    expect((await world.instance(primary)).state).toBe('lost');
  });

  test('what does not exist or is given back already cannot be moved or stopped', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    await expect(triggerFailover(world.parts, newId('workspace'), 'r')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(startRelease(world.parts, newId('instance'), { snapshotFirst: true })).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
    const { primary } = await world.served();
    const id = await startRelease(world.parts, primary, { snapshotFirst: false });
    world.runner.nudge();
    await world.finished(id);
    await expect(startRelease(world.parts, primary, { snapshotFirst: false })).rejects.toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining('gone') as string,
    });
  });

  test('a snapshot is taken by the connected primary, or refused in words', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    const signal = new AbortController().signal;
    expect(await takeSnapshot(world.parts, workspaceId, { signal })).toBeNull();
    const record = someSnapshot();
    world.agents.answers.snapshot = async () => {
      await world.publish(primary, record);
      return { name: 'snapshot', record };
    };
    expect(await takeSnapshot(world.parts, workspaceId, { signal })).toMatchObject({ id: record.snapshotId, seq: 1 });
    world.kill(primary);
    await expect(takeSnapshot(world.parts, workspaceId, { signal })).rejects.toMatchObject({ code: 'CONFLICT' });
  });
});
