import { buildFailoverReport } from '@dumont/control-plane/operations/failover-report.ts';
import { failoverDataSchema } from '@dumont/control-plane/operations/failover.ts';
import { startRelease } from '@dumont/control-plane/operations/start.ts';
import { listEvents } from '@dumont/control-plane/store/events.ts';
import { insertOperation } from '@dumont/control-plane/store/operations.ts';
import type { InstanceId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { expect, test } from 'vitest';
import { onEachDatabase } from '../../../world/databases.ts';
import { eventually } from '../../../world/eventually.ts';
import { someSnapshot } from '../../../world/rows.ts';
import { OperationsWorld } from './operations-world.ts';

onEachDatabase((database) => {
  test('a confirmed and committed loss moves the workspace to another machine under a new epoch', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    world.kill(primary);
    for (const kind of ['suspect', 'confirm', 'commit'] as const) world.say(kind, primary);
    const { id } = await world.failover(workspaceId, ['completed']);
    const after = await world.workspace(workspaceId);
    expect(after).toMatchObject({ epoch: 2, endpointInstanceId: after.primaryInstanceId });
    expect(after.primaryInstanceId).not.toBe(primary);
    expect(world.agents.toldTo('start-workload').at(-1)).toBe(after.primaryInstanceId);
    expect((await world.instance(primary)).state).toBe('gone');
    expect([...world.watched]).toEqual([after.primaryInstanceId]);
    expect(world.agents.assignments.get(await world.primaryOf(workspaceId))).toMatchObject({
      standing: 'primary',
      epoch: 2,
    });
    const report = await buildFailoverReport(world.db, id, world.clock.nowMs());
    expect(report).toMatchObject({ success: true, detectMs: 600.4, reason: 'silence', attempts: 1, epoch: 2 });
    expect(report.evidence.map(({ kind }) => kind)).toEqual(['silence']);
  });

  test('a loss that is confirmed and committed twice is one failover and one new epoch', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    world.kill(primary);
    for (const kind of ['confirm', 'confirm', 'commit', 'commit'] as const) world.say(kind, primary);
    await world.failover(workspaceId, ['completed']);
    world.say('confirm', primary);
    world.say('commit', primary);
    await world.settled();
    expect(await world.failovers(workspaceId)).toHaveLength(1);
    expect((await world.workspace(workspaceId)).epoch).toBe(2);
  });

  test('a primary that is heard again before the commit keeps the workspace, and what was rented is given back', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    world.alive.delete(primary);
    world.say('confirm', primary);
    await world.failover(workspaceId, ['committing']);
    world.alive.add(primary);
    world.say('alive', primary);
    await world.failover(workspaceId, ['averted']);
    expect(await world.workspace(workspaceId)).toMatchObject({ epoch: 1, primaryInstanceId: primary });
    expect((await world.instance(primary)).state).toBe('ready');
    await world.settled();
    expect(world.provider.machines.size).toBe(1);
  });

  test('a primary that is heard again after the commit has lost the workspace all the same', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    world.provider.gate = new Promise(() => {});
    world.alive.delete(primary);
    world.say('confirm', primary);
    await world.failover(workspaceId, ['provisioning']);
    world.say('commit', primary);
    await eventually('the old epoch is fenced', async () => (await world.workspace(workspaceId)).epoch === 2);
    world.alive.add(primary);
    world.say('alive', primary);
    await eventually('the return is noted', async () => (await world.instance(primary)).state === 'ready');
    expect((await world.failovers(workspaceId))[0]?.finishedAtMs).toBeNull();
    expect(world.agents.assignments.get(primary)).toMatchObject({ standing: 'fenced', epoch: 2 });
  });

  test('verdicts about a machine that is not primary, or unknown, change nothing', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    const other = await world.served('other');
    await world.db.query('update workspaces set primary_instance_id = null where id = $1', [other.workspaceId]);
    for (const kind of ['confirm', 'commit'] as const) {
      world.say(kind, other.primary);
      world.say(kind, 'in_unknown' as typeof primary);
    }
    await world.guardian[Symbol.asyncDispose]();
    expect(await world.failovers(other.workspaceId)).toEqual([]);
    expect((await world.workspace(other.workspaceId)).epoch).toBe(1);
    expect(await world.workspace(workspaceId)).toMatchObject({ epoch: 1, primaryInstanceId: primary });
  });

  test('a commit makes up for a confirm that was never acted on', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    world.kill(primary);
    world.say('commit', primary);
    await world.failover(workspaceId, ['completed']);
    expect((await world.workspace(workspaceId)).epoch).toBe(2);
  });

  test('a loss while the database is away is acted on when it is back, however long that takes', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    world.kill(primary);
    world.db.isDown = true;
    for (const kind of ['suspect', 'confirm', 'commit'] as const) world.say(kind, primary);
    // Far beyond the attempts that are made at once.
    await world.clock.sleep(20_000);
    world.db.isDown = false;
    await world.failover(workspaceId, ['completed']);
    expect((await world.workspace(workspaceId)).epoch).toBe(2);
  });

  test('a refutation overtakes a confirm that waits for the database', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    world.db.isDown = true;
    world.say('confirm', primary);
    await world.clock.sleep(5_000);
    world.say('alive', primary);
    await world.clock.sleep(5_000);
    world.db.isDown = false;
    const isNoted = async () => {
      const events = await listEvents(world.db, { after: 0, limit: 500, workspaceId });
      return events.some(({ type }) => type === 'instance.alive');
    };
    await eventually('the return is noted', isNoted);
    expect(await world.failovers(workspaceId)).toEqual([]);
    expect((await world.instance(primary)).state).toBe('ready');
  });

  test('a primary lost while another operation holds its workspace is failed over when that ends', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    const saving = Promise.withResolvers<never>();
    world.agents.answers.snapshot = () => saving.promise;
    const release = await startRelease(world.parts, primary, { snapshotFirst: true });
    world.runner.nudge();
    await eventually('the release saves', () => world.agents.toldTo('snapshot').length > 0);
    world.say('confirm', primary);
    await eventually('the loss is noted', async () => (await world.instance(primary)).state === 'lost');
    expect(await world.failovers(workspaceId)).toEqual([]);
    world.kill(primary);
    saving.reject(new DumontError('IO', 'the disk is gone'));
    expect((await world.finished(release)).state).toBe('failed');
    const failover = await world.failover(workspaceId, ['searching', 'provisioning', 'restoring', 'committing']);
    expect(failover.data).toMatchObject({ fromInstanceId: primary, reason: 'lost while another operation ran' });
    world.say('commit', primary);
    await world.failover(workspaceId, ['completed']);
  });

  test('a replacement that is lost after it was promoted is fenced, given back and replaced by the same failover', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    world.agents.answers['start-workload'] = () => new Promise<never>(() => {});
    world.kill(primary);
    world.say('confirm', primary);
    world.say('commit', primary);
    await eventually('the workload is started', () => world.agents.toldTo('start-workload').length === 2);
    delete world.agents.answers['start-workload'];
    const second = await world.primaryOf(workspaceId);
    world.kill(second);
    world.say('confirm', second);
    world.say('commit', second);
    const { id } = await world.failover(workspaceId, ['completed']);
    const third = await world.primaryOf(workspaceId);
    expect(new Set([primary, second, third]).size).toBe(3);
    expect((await world.workspace(workspaceId)).epoch).toBe(3);
    const report = await buildFailoverReport(world.db, id, world.clock.nowMs());
    expect(report).toMatchObject({ success: true, attempts: 2, epoch: 3, to: { instanceId: third } });
    expect(report.loserInstanceIds).toEqual([second]);
    await world.settled();
    expect(world.provider.machines.size).toBe(1);
    expect(await world.failovers(workspaceId)).toHaveLength(1);
  });

  test('a workspace whose failover found no machine after the fence is looked after again, not before a while', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened, { giveUpAfterMs: 2_000 }).start();
    const { workspaceId, primary } = await world.served();
    const { offers } = world.provider;
    world.provider.offers = [];
    world.kill(primary);
    for (const kind of ['confirm', 'commit'] as const) world.say(kind, primary);
    const { finishedAtMs } = await world.failover(workspaceId, ['failed']);
    expect(await world.workspace(workspaceId)).toMatchObject({ epoch: 2, primaryInstanceId: null });
    world.provider.offers = offers;
    const next = await world.failover(workspaceId, ['completed'], 2);
    expect(next.createdAtMs - must(finishedAtMs, 'it is over')).toBeGreaterThanOrEqual(60_000);
    expect(await world.failovers(workspaceId)).toHaveLength(2);
    const after = await world.workspace(workspaceId);
    expect(after.endpointInstanceId).toBe(after.primaryInstanceId);
    const report = await buildFailoverReport(world.truth, next.id, world.clock.nowMs());
    expect(report).toMatchObject({ trigger: 'unserved', success: true, from: { instanceId: primary } });
    expect(report.totalMs).toBeGreaterThan(60_000);
  });

  test('what was handed over in good order is not lost when the machine comes only with the next failover', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    await world.publish(primary, someSnapshot());
    const { id } = await insertFailed(world, workspaceId, primary);
    world.agents.disconnect(primary);
    await world.db.query('update workspaces set primary_instance_id = null, epoch = 2 where id = $1', [workspaceId]);
    await world.clock.sleep(60_000);
    const next = await world.failover(workspaceId, ['completed'], 2);
    expect(next.id).not.toBe(id);
    expect(await buildFailoverReport(world.truth, next.id, world.clock.nowMs())).toMatchObject({
      trigger: 'unserved',
      rpoMs: 0,
    });
  });

  test('a workspace that was stopped on purpose stays so', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    // Users were not pointed at it yet when an earlier failover ended.
    await world.db.query("update workspaces set endpoint_instance_id = 'in_before' where id = $1", [workspaceId]);
    await world.finished(await startRelease(world.parts, primary, { snapshotFirst: false }));
    expect(await world.workspace(workspaceId)).toMatchObject({ primaryInstanceId: null, endpointInstanceId: null });
    await world.clock.sleep(10_000);
    expect(await world.failovers(workspaceId)).toEqual([]);
  });
});

/** A failover that gave up after its old primary had handed over. */
async function insertFailed(world: OperationsWorld, workspaceId: WorkspaceId, primary: InstanceId) {
  const atMs = Math.round(world.clock.nowMs());
  const id = newId('operation');
  const data = failoverDataSchema.parse({
    trigger: 'operator',
    reason: 'move',
    fromInstanceId: primary,
    silenceBeganAtMs: atMs,
    confirmedAtMs: atMs,
    detectMs: 0,
    handedOverId: primary,
    savedAtMs: atMs,
  });
  await insertOperation(world.truth, { id, kind: 'failover', workspaceId, state: 'failed', data, atMs });
  await world.truth.query('update operations set finished_at = $2 where id = $1', [id, atMs]);
  return { id };
}
