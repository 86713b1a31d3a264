import { buildFailoverReport } from '@dumont/control-plane/operations/failover-report.ts';
import { failoverKind } from '@dumont/control-plane/operations/failover.ts';
import { fence } from '@dumont/control-plane/operations/fence.ts';
import { startRelease, triggerFailover } from '@dumont/control-plane/operations/start.ts';
import type { InstanceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { expect, test } from 'vitest';
import { onEachDatabase } from '../../../world/databases.ts';
import { eventually } from '../../../world/eventually.ts';
import { someSnapshot } from '../../../world/rows.ts';
import { OperationsWorld } from './operations-world.ts';
import { restored } from './scripted-agents.ts';

function lose(world: OperationsWorld, primary: InstanceId): void {
  world.kill(primary);
  world.say('confirm', primary);
  world.say('commit', primary);
}

onEachDatabase((database) => {
  test('a replacement that cannot restore is given back, its host is not tried again, and the next one serves', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    await world.publish(primary, someSnapshot());
    let failures = 0;
    world.agents.answers.restore = async (_id, action) => {
      if (action.name !== 'restore') throw new Error('not a restore');
      failures += 1;
      if (failures === 1) throw new DumontError('IO', 'disk full');
      return { name: 'restore', restore: restored(action.snapshot.snapshotId) };
    };
    lose(world, primary);
    const { id, data } = await world.failover(workspaceId, ['completed']);
    const [first, second] = world.agents.toldTo('restore');
    expect(first).not.toBe(second);
    const hosts = world.provider.orders.slice(-2).map(({ offer }) => offer.machineId);
    expect(data['excludedMachineIds']).toEqual([hosts[0]]);
    expect(hosts[0]).not.toBe(hosts[1]);
    const report = await buildFailoverReport(world.db, id, world.clock.nowMs());
    expect(report).toMatchObject({ attempts: 2, success: true, error: null, restore: { bytesWritten: 4_096 } });
    await world.settled();
    expect(world.provider.machines.size).toBe(1);
  });

  test('what the old primary published after the restore is restored as well, before the replacement is promoted', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    const older = someSnapshot();
    await world.publish(primary, older);
    world.alive.delete(primary);
    world.say('confirm', primary);
    await world.failover(workspaceId, ['committing']);
    const newer = someSnapshot(older.snapshotId);
    expect(await world.publish(primary, newer)).toMatchObject({ kind: 'committed' });
    world.say('commit', primary);
    const { id } = await world.failover(workspaceId, ['completed']);
    expect(await world.publish(primary, someSnapshot(newer.snapshotId))).toMatchObject({ kind: 'stale-epoch' });
    const report = await buildFailoverReport(world.db, id, world.clock.nowMs());
    expect(report).toMatchObject({ snapshot: { snapshotId: newer.snapshotId }, attempts: 1 });
    expect(report.restore).toMatchObject({ bytesWritten: 8_192, snapshotId: newer.snapshotId });
  });

  test('a workload that does not come up is reported, and the workspace is served all the same', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    world.agents.answers['start-workload'] = async () => {
      throw new DumontError('WORKLOAD', 'exit code 3', { retryable: true });
    };
    lose(world, primary);
    const { id } = await world.failover(workspaceId, ['completed']);
    const report = await buildFailoverReport(world.db, id, world.clock.nowMs());
    expect(report).toMatchObject({
      state: 'completed',
      success: false,
      error: 'exit code 3',
      workloadResumedAtMs: null,
    });
    expect((await world.workspace(workspaceId)).endpointInstanceId).toBe(report.to?.instanceId);
  });

  test('a workload that runs but does not serve is reported with its check, and is served all the same', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    const check = {
      kind: 'ollama',
      model: 'llama3.2',
      ok: false,
      readyMs: 120,
      firstTokenMs: null,
      tokens: null,
      totalMs: 900,
      error: 'cudaMalloc failed',
    } as const;
    world.agents.answers['start-workload'] = async (_id, action) => {
      expect(action).toMatchObject({ check: true });
      return { name: 'start-workload', state: 'running', pid: 42, check };
    };
    lose(world, primary);
    const { id } = await world.failover(workspaceId, ['completed']);
    const report = await buildFailoverReport(world.db, id, world.clock.nowMs());
    const error = 'the workload runs but does not serve: cudaMalloc failed';
    expect(report).toMatchObject({ state: 'completed', success: false, error, check });
    expect((await world.workspace(workspaceId)).endpointInstanceId).toBe(report.to?.instanceId);
  });

  test('without a fitting offer it gives up in time, and leaves a workspace that was not fenced as it was', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    world.provider.offers = world.provider.offers.map((offer) => ({ ...offer, reliability: 0.1 }));
    world.alive.delete(primary);
    world.say('confirm', primary);
    const { error } = await world.failover(workspaceId, ['failed']);
    expect(error).toMatch(/no offer fits the policy/);
    expect(await world.workspace(workspaceId)).toMatchObject({ epoch: 1, primaryInstanceId: primary });
  });

  test('after eight machines that did not work it gives up and holds none of them', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    await world.publish(primary, someSnapshot());
    world.agents.answers.restore = () => Promise.reject(new DumontError('IO', 'broken disk'));
    lose(world, primary);
    const { id, error } = await world.failover(workspaceId, ['failed']);
    expect(error).toMatch(/after 8 machines/);
    await world.settled();
    // The lost machine stays: it is the endpoint, and an operator decides.
    expect(world.provider.machines.size).toBe(1);
    const report = await buildFailoverReport(world.db, id, world.clock.nowMs());
    expect(report).toMatchObject({ success: false, attempts: 8, to: null, snapshot: null, totalMs: null });
    expect(new Set(world.provider.orders.map(({ offer }) => offer.machineId)).size).toBe(9);
  });

  test('the host that is being left is used again only when no other fits', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    world.provider.offers = world.provider.offers.slice(0, 1);
    lose(world, primary);
    await world.failover(workspaceId, ['completed']);
    expect(world.provider.orders.map(({ offer }) => offer.machineId)).toEqual(['host-0', 'host-0']);
  });

  test("an operator's move hands over in good order: stop, last snapshot, fence, promote", async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    const last = someSnapshot();
    world.agents.answers.snapshot = async () => {
      await world.publish(primary, last);
      return { name: 'snapshot', record: last };
    };
    const id = await triggerFailover(world.parts, workspaceId, 'host is slow');
    world.runner.nudge();
    expect((await world.finished(id)).state).toBe('completed');
    const after = await world.workspace(workspaceId);
    expect(after).toMatchObject({ epoch: 2, headSnapshotId: last.snapshotId });
    const ofOld = world.agents.commands.filter(({ instanceId }) => instanceId === primary).map(({ name }) => name);
    expect(ofOld.slice(-2)).toEqual(['stop-workload', 'snapshot']);
    expect(world.agents.toldTo('restore').at(-1)).toBe(after.primaryInstanceId);
    expect((await world.instance(primary)).state).toBe('gone');
  });

  test('a move that leaves nothing behind has lost nothing, however old the snapshot it restores', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    const old = someSnapshot();
    await world.publish(primary, old);
    const move = async () => {
      const id = await triggerFailover(world.parts, workspaceId, 'asked by an operator');
      world.runner.nudge();
      await world.finished(id);
      return buildFailoverReport(world.db, id, world.clock.nowMs());
    };
    world.agents.answers.snapshot = async () => ({ name: 'snapshot', record: null });
    expect(await move()).toMatchObject({ rpoMs: 0, snapshot: { snapshotId: old.snapshotId } });
    const last = await world.primaryOf(workspaceId);
    const release = await startRelease(world.parts, last, { snapshotFirst: false });
    world.runner.nudge();
    await world.finished(release);
    expect(await move()).toMatchObject({ rpoMs: 0, from: null });
  });

  test("an operator's move of a machine that cannot save is averted: its workload goes on, nothing is fenced", async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    const saved = someSnapshot();
    await world.publish(primary, saved);
    world.agents.answers.snapshot = () => Promise.reject(new DumontError('IO', 'the store is full'));
    const id = await triggerFailover(world.parts, workspaceId, 'host is slow');
    world.runner.nudge();
    const { state, error } = await world.finished(id);
    expect(state).toBe('averted');
    expect(error).toBe('no last snapshot could be taken, so the workspace stays on its machine: the store is full.');
    const ofOld = world.agents.commands.filter(({ instanceId }) => instanceId === primary).map(({ name }) => name);
    expect(ofOld.slice(-3)).toEqual(['stop-workload', 'snapshot', 'start-workload']);
    const after = await world.workspace(workspaceId);
    expect(after).toMatchObject({ epoch: 1, primaryInstanceId: primary, headSnapshotId: saved.snapshotId });
    expect((await world.instance(primary)).state).toBe('ready');
    expect(await world.publish(primary, someSnapshot(saved.snapshotId))).toMatchObject({ kind: 'committed' });
    await world.settled();
    expect(world.provider.machines.size).toBe(1);
    const report = await buildFailoverReport(world.db, id, world.clock.nowMs());
    expect(report).toMatchObject({ success: false, rpoMs: 0, error, epoch: null, totalMs: null });
  });

  test('a workload that does not start again after such a move is told of', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId } = await world.served();
    world.agents.answers.snapshot = () => Promise.reject(new DumontError('IO', 'the store is full'));
    world.agents.answers['start-workload'] = () => Promise.reject(new DumontError('WORKLOAD', 'exit code 3'));
    const id = await triggerFailover(world.parts, workspaceId, 'host is slow');
    world.runner.nudge();
    const { state, error } = await world.finished(id);
    expect([state, error]).toEqual(['averted', expect.stringContaining('could not be started again: exit code 3')]);
  });

  test('a machine lost in the middle of its hand-over is left to the detector, and the head is used', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    world.agents.answers.snapshot = () => {
      world.kill(primary);
      return Promise.reject(new DumontError('UNAVAILABLE', 'gone'));
    };
    const id = await triggerFailover(world.parts, workspaceId, 'host is slow');
    world.runner.nudge();
    await eventually('it is silent', () => !world.alive.has(primary));
    expect((await world.workspace(workspaceId)).epoch).toBe(1);
    world.say('confirm', primary);
    world.say('commit', primary);
    expect((await world.finished(id)).state).toBe('completed');
    expect((await world.workspace(workspaceId)).epoch).toBe(2);
  });

  test('a machine that falls silent for a moment while it hands over is asked again', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    let asked = 0;
    world.agents.answers.snapshot = async () => {
      asked += 1;
      if (asked > 1) return { name: 'snapshot', record: null };
      world.kill(primary);
      world.clock.after(500, () => {
        world.agents.connect(primary);
        world.alive.add(primary);
      });
      throw new DumontError('UNAVAILABLE', 'gone');
    };
    const id = await triggerFailover(world.parts, workspaceId, 'host is slow');
    world.runner.nudge();
    expect((await world.finished(id)).state).toBe('completed');
    expect(asked).toBe(2);
  });

  test('a machine that neither answers nor is lost keeps its workspace', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    world.alive.delete(primary);
    const id = await triggerFailover(world.parts, workspaceId, 'host is slow');
    world.runner.nudge();
    const { state, error } = await world.finished(id);
    expect([state, error]).toEqual(['averted', expect.stringContaining('not proven lost')]);
    expect(await world.workspace(workspaceId)).toMatchObject({ epoch: 1, primaryInstanceId: primary });
  });

  test('a fence whose agent could not be told is told when the fence is repeated', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    const target = { workspaceId, instanceId: primary, operationId: null };
    const { wardship } = world.parts;
    const unreadable = new DumontError('UNAVAILABLE', 'what the agent must be told cannot be read');
    const deaf = { unwatch: (id: InstanceId) => wardship.unwatch(id), inform: () => Promise.reject(unreadable) };
    await expect(fence({ ...world.parts, wardship: deaf as never }, target)).rejects.toThrow(unreadable);
    expect(world.agents.assignments.get(primary)?.standing).not.toBe('fenced');
    expect(await fence(world.parts, target)).toBe(false);
    expect(world.agents.assignments.get(primary)).toMatchObject({ standing: 'fenced', epoch: 2 });
    expect((await world.workspace(workspaceId)).epoch).toBe(2);
  });

  test('an order whose answer was lost leaves no machine behind', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    world.provider.fates.push('lost-answer', 'throws', 'refused', 'offer-gone');
    lose(world, primary);
    const { data } = await world.failover(workspaceId, ['completed']);
    expect(data['attempts']).toBe(0);
    await world.settled();
    expect(world.provider.machines.size).toBe(1);
  });

  test('whichever database call of a failover fails, it ends with one primary and no machine too many', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, ...served } = await world.served('w', {
      workload: { command: 'x' },
      strategy: 'race',
      raceWidth: 2,
    });
    let { primary } = served;
    for (const [index, offset] of [3, 11, 19, 27, 38, 49, 60, 75].entries()) {
      lose(world, primary);
      world.db.failAt(offset);
      await world.failover(workspaceId, ['completed'], index + 1);
      primary = await world.primaryOf(workspaceId);
      world.alive.add(primary);
      await world.settled();
      expect(world.provider.machines.size).toBe(1);
      expect((await world.workspace(workspaceId)).epoch).toBeGreaterThanOrEqual(index + 2);
    }
    const rows = await world.truth.query("select count(*)::int as held from instances where state not in ('gone')");
    expect(rows).toEqual([{ held: 1 }]);
  });

  test('only a primary that still holds the lease can refute its failover', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened);
    const lost = newId('instance');
    const { acceptsInterrupt } = failoverKind(world.parts);
    const workspaceId = newId('workspace');
    await world.db.query(
      "insert into workspaces (id, name, policy, created_at, primary_instance_id) values ($1, 'w', '{}', 0, $2)",
      [workspaceId, lost],
    );
    const judge = (event: 'refuted' | 'attemptFailed', fromInstanceId: InstanceId) =>
      acceptsInterrupt?.(world.db, {
        workspaceId,
        state: 'committing',
        event,
        // Only what the decision reads.
        data: { fromInstanceId } as never,
      });
    expect(await judge('refuted', lost)).toBe(true);
    expect(await judge('refuted', newId('instance'))).toBe(false);
    expect(await judge('attemptFailed', newId('instance'))).toBe(true);
    await world.db.query('update workspaces set primary_instance_id = null');
    expect(await judge('refuted', lost)).toBe(false);
    await world.db.query('delete from workspaces');
    expect(await judge('refuted', lost)).toBe(false);
  });

  test('a failover taken up after a restart waits for the verdict, and a primary that answers again averts it', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    world.alive.delete(primary);
    world.say('confirm', primary);
    await world.failover(workspaceId, ['committing']);
    // No verdict any more: the detector of the new process has only just begun to listen.
    world.alive.add(primary);
    await world.failover(workspaceId, ['averted']);
    await eventually('it counts as held again', async () => (await world.instance(primary)).state === 'ready');
  });
});
