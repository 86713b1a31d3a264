import { expect, test } from 'vitest';
import { objectionTo } from '@dumont/control-plane/operations/standby-save.ts';
import { buildFailoverReport } from '@dumont/control-plane/operations/failover-report.ts';
import type { InstanceId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { onEachDatabase } from '../../../world/databases.ts';
import { eventually } from '../../../world/eventually.ts';
import { someOffer, someSnapshot } from '../../../world/rows.ts';
import { OperationsWorld } from './operations-world.ts';

const WITH_STANDBY = {
  workload: { command: 'train' },
  standby: { enabled: true, maxPriceMicroUsdPerHour: 1_000_000 },
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

  test('a failover restores what the standby saved, and its report says so', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served('w', WITH_STANDBY);
    const standby = await standbyOf(world, workspaceId);
    const old = someSnapshot();
    await world.publish(primary, old);
    await world.clock.sleep(3_000);
    world.lags.set(primary, { bytes: 10, ms: 40, atMs: world.clock.nowMs() });
    const saved = someSnapshot(old.snapshotId);
    world.agents.answers.snapshot = async (instanceId) => {
      expect(instanceId).toBe(standby);
      expect(world.agents.assignments.get(standby)?.sync).toBeUndefined();
      expect(await world.publish(standby, saved)).toMatchObject({ kind: 'committed' });
      return { name: 'snapshot', record: saved };
    };
    world.kill(primary);
    world.say('commit', primary);
    const failover = await world.failover(workspaceId, ['completed']);
    expect((await world.workspace(workspaceId)).headSnapshotId).toBe(saved.snapshotId);
    const report = await buildFailoverReport(world.truth, failover.id, world.clock.nowMs());
    expect(report).toMatchObject({ rpoMs: 40, standby: { instanceId: standby, outcome: 'saved', reason: null } });
    expect(report.snapshot?.snapshotId).toBe(saved.snapshotId);
    const next = await world.primaryOf(workspaceId);
    await eventually('the standby follows the next primary', () => {
      const [sends, receives] = [next, standby].map((id) => world.agents.assignments.get(id)?.sync);
      return sends?.epoch === 2 && receives?.token === sends.token;
    });
    // It may save nothing while somebody is primary.
    expect(await world.publish(standby, someSnapshot(saved.snapshotId))).toMatchObject({ kind: 'stale-epoch' });
  });

  test('what the standby committed counts although its answer was lost', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served('w', WITH_STANDBY);
    const standby = await standbyOf(world, workspaceId);
    world.lags.set(primary, { bytes: 0, ms: 0, atMs: world.clock.nowMs() + 1_000 });
    const saved = someSnapshot();
    world.agents.answers.snapshot = async () => {
      await world.publish(standby, saved);
      throw new Error('the connection ended');
    };
    world.kill(primary);
    world.say('commit', primary);
    const failover = await world.failover(workspaceId, ['completed']);
    expect(failover.data).toMatchObject({
      restoredSnapshotId: saved.snapshotId,
      standbySave: { outcome: 'saved', snapshotId: saved.snapshotId },
    });
  });

  test('a standby that fails to save, or of which nobody knows what it has, costs nothing but the last snapshot', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served('w', WITH_STANDBY);
    const standby = await standbyOf(world, workspaceId);
    const old = someSnapshot();
    await world.publish(primary, old);
    await world.clock.sleep(3_000);
    world.agents.answers.snapshot = () => Promise.reject(new Error('disk full'));
    world.lags.set(primary, { bytes: 0, ms: 0, atMs: world.clock.nowMs() });
    world.kill(primary);
    world.say('commit', primary);
    await world.failover(workspaceId, ['completed']);
    const second = await world.primaryOf(workspaceId);
    world.alive.add(second);
    world.kill(second);
    world.say('commit', second);
    const last = await world.failover(workspaceId, ['completed'], 2);
    const reports = await Promise.all(
      (await world.failovers(workspaceId)).map(({ id }) => buildFailoverReport(world.truth, id, world.clock.nowMs())),
    );
    expect(reports.map((report) => report.standby?.reason)).toEqual([
      'nobody knows whether the standby had everything',
      'disk full',
    ]);
    expect(last.state).toBe('completed');
    expect(world.agents.toldTo('snapshot')).toEqual([standby]);
    expect((await world.workspace(workspaceId)).headSnapshotId).toBe(old.snapshotId);
    expect((await world.workspace(workspaceId)).standbySaveEpoch).toBeNull();
  });
});

test('a copy counts only where it is known to be newer than the last snapshot, by our own clock', () => {
  const head = { committedAtMs: 100_000, record: { ...someSnapshot(), createMs: 4_000, startedAtMs: 7_000_000 } };
  const lag = { bytes: 0, ms: 50, atMs: 100_000 };
  const facts = { isConnected: true, lag, standbyReadyAtMs: 10_000, head };
  expect(objectionTo(facts)).toBeNull();
  expect(objectionTo({ ...facts, head: undefined })).toBeNull();
  expect(objectionTo({ ...facts, isConnected: false })).toContain('not connected');
  expect(objectionTo({ ...facts, lag: null })).toContain('nobody knows');
  expect(objectionTo({ ...facts, standbyReadyAtMs: 100_500 })).toContain('nobody knows');
  expect(objectionTo({ ...facts, lag: { ...lag, ms: 4_000 } })).toContain('newer');
  expect(must(objectionTo({ ...facts, lag: { ...lag, ms: 60_000 } }), 'it is old')).toContain('newer');
});
