import { buildFailoverReport } from '@dumont/control-plane/operations/failover-report.ts';
import { startRelease } from '@dumont/control-plane/operations/start.ts';
import { objectionTo } from '@dumont/control-plane/operations/takeover.ts';
import { listEvents } from '@dumont/control-plane/store/events.ts';
import type { InstanceId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { expect, test } from 'vitest';
import { onEachDatabase } from '../../../world/databases.ts';
import { eventually } from '../../../world/eventually.ts';
import { someSnapshot } from '../../../world/rows.ts';
import { OperationsWorld } from './operations-world.ts';

const WITH_STANDBY = {
  workload: { command: 'train' },
  standby: { enabled: true, maxPriceMicroUsdPerHour: 1_000_000, command: 'notebook' },
} as const;

async function followed(world: OperationsWorld) {
  const { workspaceId, primary } = await world.served('w', WITH_STANDBY);
  const standby = await eventually('the workspace has a standby', async () => {
    return (await world.workspace(workspaceId)).standbyInstanceId;
  });
  const head = someSnapshot();
  await world.publish(primary, head);
  await world.clock.sleep(3_000);
  world.alive.add(standby);
  return { workspaceId, primary, standby, head };
}

/** The primary dies, and its last beat said that the standby was this far behind. */
function lose(world: OperationsWorld, primary: InstanceId, behindMs = 40): void {
  world.lags.set(primary, { bytes: 10, ms: behindMs, atMs: world.clock.nowMs() });
  world.kill(primary);
  world.say('commit', primary);
}

/** Each snapshot that the standby is asked for holds something new. */
function publishAlways(world: OperationsWorld, head: { readonly snapshotId: string }): void {
  let parent = head as ReturnType<typeof someSnapshot>;
  world.agents.answers.snapshot = async (instanceId) => {
    const record = someSnapshot(parent.snapshotId);
    expect(await world.publish(instanceId, record)).toMatchObject({ kind: 'committed' });
    parent = record;
    return { name: 'snapshot', record };
  };
}

async function eventsOf(world: OperationsWorld, workspaceId: WorkspaceId, type: string) {
  return (await listEvents(world.truth, { after: 0, limit: 1_000, workspaceId })).filter(
    (event) => event.type === type,
  );
}

function onStandby(world: OperationsWorld, workspaceId: WorkspaceId, standby: InstanceId) {
  return eventually('users are on the standby', async () => {
    const workspace = await world.workspace(workspaceId);
    return workspace.primaryInstanceId === standby && workspace;
  });
}

onEachDatabase((database) => {
  test('users are on the standby before a machine is found, and come back with what was written there', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary, standby, head } = await followed(world);
    publishAlways(world, head);
    world.isMute = true;
    lose(world, primary);
    const workspace = await onStandby(world, workspaceId, standby);
    expect(workspace).toMatchObject({ epoch: 2, endpointInstanceId: standby, standbyInstanceId: null });
    expect(world.watched).toEqual(new Set([standby]));
    await eventually('it was told', () => world.agents.assignments.get(standby)?.standing === 'primary');
    expect(world.agents.assignments.get(standby)).toMatchObject({ epoch: 2, workload: { command: 'notebook' } });
    expect(await world.publish(primary, someSnapshot(head.snapshotId))).toMatchObject({ kind: 'stale-epoch' });
    world.isMute = false;
    const { id } = await world.failover(workspaceId, ['completed']);
    const report = await buildFailoverReport(world.truth, id, world.clock.nowMs());
    expect(report).toMatchObject({
      epoch: 3,
      rpoMs: 40,
      success: true,
      standby: { instanceId: standby, outcome: 'handed-over', behindMs: 40, reason: null },
    });
    expect(report.standby?.pauseMs).toBeGreaterThan(0);
    expect(report.snapshot?.snapshotId).toBe((await world.workspace(workspaceId)).headSnapshotId);
    const asked = world.agents.commands.filter(({ instanceId }) => instanceId === standby).map(({ name }) => name);
    expect(asked).toEqual(['snapshot', 'stop-workload', 'snapshot']);
    const last = await world.primaryOf(workspaceId);
    expect(world.agents.assignments.get(last)?.workload?.command).toBe('train');
    expect(await eventsOf(world, workspaceId, 'workspace.back')).toMatchObject([
      { instanceId: last, data: { from: standby, handedOver: true, epoch: 3 } },
    ]);
    await eventually('it is given back', async () => (await world.instance(standby)).state === 'gone');
    expect((await world.instance(primary)).state).toBe('gone');
  });

  test('a standby that is lost before it hands over is fenced as any primary, and the newest snapshot is restored', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary, standby, head } = await followed(world);
    world.isMute = true;
    lose(world, primary);
    await onStandby(world, workspaceId, standby);
    const there = someSnapshot(head.snapshotId);
    await world.publish(standby, there);
    world.kill(standby);
    world.say('confirm', standby);
    world.say('commit', standby);
    world.isMute = false;
    const { id } = await world.failover(workspaceId, ['completed']);
    expect(await world.failovers(workspaceId)).toHaveLength(1);
    expect(await world.workspace(workspaceId)).toMatchObject({ epoch: 3, headSnapshotId: there.snapshotId });
    const report = await buildFailoverReport(world.truth, id, world.clock.nowMs());
    expect(report).toMatchObject({
      standby: { outcome: 'lost', pauseMs: null },
      to: { instanceId: await world.primaryOf(workspaceId) },
    });
    expect(report.rpoMs).toBeGreaterThanOrEqual(40);
  });

  test('a standby that cannot hand over keeps the users, and another way back is tried only after a while', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary, standby } = await followed(world);
    world.agents.answers.snapshot = () => Promise.reject(new Error('disk full'));
    lose(world, primary);
    const { error } = await world.failover(workspaceId, ['averted']);
    expect(error).toContain('disk full');
    expect(await world.workspace(workspaceId)).toMatchObject({ epoch: 2, primaryInstanceId: standby });
    expect(world.agents.toldTo('start-workload').at(-1)).toBe(standby);
    await eventually('the lost machine is given back', async () => {
      await world.sweeper.sweep();
      return (await world.instance(primary)).state === 'gone';
    });
    await world.clock.sleep(20_000);
    expect(await world.failovers(workspaceId)).toHaveLength(1);
    delete world.agents.answers.snapshot;
    await world.clock.sleep(60_000);
    const next = await world.failover(workspaceId, ['completed'], 2);
    const report = await buildFailoverReport(world.truth, next.id, world.clock.nowMs());
    expect(report).toMatchObject({
      trigger: 'standby',
      rpoMs: 0,
      standby: { instanceId: standby, outcome: 'handed-over', takeoverMs: null },
    });
    expect((await world.workspace(workspaceId)).epoch).toBe(3);
  });

  test('an averted failover moves nobody to the standby, and a takeover is not averted any more', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary, standby } = await followed(world);
    world.isMute = true;
    world.alive.delete(primary);
    world.say('confirm', primary);
    await world.failover(workspaceId, ['provisioning']);
    world.say('alive', primary);
    await world.failover(workspaceId, ['averted']);
    expect(await world.workspace(workspaceId)).toMatchObject({ epoch: 1, primaryInstanceId: primary });
    world.lags.set(primary, { bytes: 0, ms: 0, atMs: world.clock.nowMs() });
    world.say('commit', primary);
    world.say('alive', primary);
    await onStandby(world, workspaceId, standby);
    world.isMute = false;
    await world.failover(workspaceId, ['completed'], 2);
    expect((await world.workspace(workspaceId)).epoch).toBe(3);
  });

  test('whoever cannot tell what the standby has goes on from the last snapshot, as without a standby', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary, standby, head } = await followed(world);
    world.kill(primary);
    world.say('commit', primary);
    const { id } = await world.failover(workspaceId, ['completed']);
    const report = await buildFailoverReport(world.truth, id, world.clock.nowMs());
    expect(report).toMatchObject({
      epoch: 2,
      snapshot: { snapshotId: head.snapshotId },
      standby: { instanceId: standby, outcome: 'not-used', reason: 'nobody knows whether the standby had everything' },
    });
    const next = await world.primaryOf(workspaceId);
    await eventually('the standby follows the next primary', () => {
      const [sends, receives] = [next, standby].map((id_) => world.agents.assignments.get(id_)?.sync);
      return sends?.epoch === 2 && receives?.token === sends.token;
    });
  });

  test('a machine that is stopped on purpose is not taken over when it is lost meanwhile', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await followed(world);
    world.agents.answers['stop-workload'] = () => new Promise(() => {});
    await startRelease(world.parts, primary, { snapshotFirst: true });
    world.runner.nudge();
    await eventually('it is being stopped', () => world.agents.toldTo('stop-workload').length > 0);
    lose(world, primary);
    await eventually('it is fenced', async () => (await world.workspace(workspaceId)).primaryInstanceId === null);
    expect(await eventsOf(world, workspaceId, 'workspace.on-standby')).toEqual([]);
  });
});

test('a copy counts only where it is known to be whole and no older than the last snapshot, on a standby that is trusted', () => {
  const head = { committedAtMs: 100_000, record: { ...someSnapshot(), createMs: 4_000, startedAtMs: 7_000_000 } };
  const lag = { bytes: 0, ms: 50, atMs: 100_000 };
  const presence = { isConnected: true, silentMs: 200, readyAtMs: 10_000, upMs: 90_000, trustAfterMs: 0 };
  const facts = { ...presence, lag, head };
  expect(objectionTo(facts)).toBeNull();
  expect(objectionTo({ ...facts, head: undefined })).toBeNull();
  expect(objectionTo({ ...facts, isConnected: false })).toContain('not connected');
  expect(objectionTo({ ...facts, silentMs: 2_500 })).toContain('not heard');
  expect(objectionTo({ ...facts, lag: null })).toContain('nobody knows');
  expect(objectionTo({ ...facts, readyAtMs: 100_500 })).toContain('nobody knows');
  expect(objectionTo({ ...facts, trustAfterMs: 90_001 })).toContain('trusted');
  expect(objectionTo({ ...facts, lag: { ...lag, ms: 4_000 } })).toBeNull();
  expect(objectionTo({ ...facts, lag: { ...lag, ms: 4_001 } })).toContain('newer');
  // In step, the beat that says so may be older than the snapshot.
  const just = { ...head, committedAtMs: lag.atMs + head.record.createMs + 500 };
  expect(objectionTo({ ...facts, head: just })).toBeNull();
  expect(objectionTo({ ...facts, head: just, lag: { ...lag, ms: 501 } })).toContain('newer');
  expect(objectionTo({ ...facts, head: { ...just, committedAtMs: just.committedAtMs + 500 } })).toContain('newer');
  expect(must(objectionTo({ ...facts, lag: { ...lag, ms: 60_000 } }), 'it is old')).toContain('newer');
});
