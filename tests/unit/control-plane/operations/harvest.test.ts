import { expect, test } from 'vitest';
import { buildFailoverReport } from '@dumont/control-plane/operations/failover-report.ts';
import { branchesOfOperation } from '@dumont/control-plane/store/branches.ts';
import type { InstanceId, OperationId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { WorkspacePolicyInput } from '@dumont/shared/model/policy.ts';
import type { SnapshotRecord } from '@dumont/shared/protocol/snapshot-record.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { onEachDatabase } from '../../../world/databases.ts';
import { eventually } from '../../../world/eventually.ts';
import { someSnapshot } from '../../../world/rows.ts';
import { OperationsWorld } from './operations-world.ts';

const POLICY = { workload: { command: 'train' } };
const CHANGE = { path: 'late.pt', change: 'added', sizeBytes: 5, modifiedAtMs: 1 } as const;
const SUMMARY = { addedCount: 1, changedCount: 0, deletedCount: 0, changedBytes: 5, changes: [CHANGE] };

/** A world whose agents hold one late file, on top of whatever they are told is their last snapshot. */
function harvestable(world: OperationsWorld): { readonly asked: InstanceId[]; readonly records: SnapshotRecord[] } {
  const [asked, records]: [InstanceId[], SnapshotRecord[]] = [[], []];
  world.agents.answers.harvest = (instanceId, action) => {
    if (action.name !== 'harvest') throw new Error('answered as harvest only');
    // Only now may it write to the store, and it is still fenced.
    const assignment = must(world.agents.assignments.get(instanceId), 'it was told');
    expect(assignment).toMatchObject({ standing: 'fenced', storage: { kind: 'file' } });
    const record = someSnapshot(action.base?.snapshotId ?? null);
    asked.push(instanceId);
    records.push(record);
    return Promise.resolve({ name: 'harvest', record, summary: SUMMARY });
  };
  return { asked, records };
}

/** The primary falls silent, is fenced, and is connected again before its successor serves. */
async function failOver(world: OperationsWorld, policy: WorkspacePolicyInput = POLICY) {
  const { workspaceId, primary } = await world.served('w', policy);
  const base = someSnapshot();
  await world.publish(primary, base);
  world.alive.delete(primary);
  world.say('commit', primary);
  const failover = await world.failover(workspaceId, ['completed']);
  return { workspaceId, primary, base, failover };
}

async function closing(world: OperationsWorld, workspaceId: WorkspaceId, operationId: OperationId) {
  const rows = await world.truth.query(
    "select type, data from events where workspace_id = $1 and operation_id = $2 and type like 'branch.%'",
    [workspaceId, operationId],
  );
  return rows as unknown as readonly { readonly type: string; readonly data: Readonly<Record<string, unknown>> }[];
}

onEachDatabase((database) => {
  test('a fenced machine that answers is harvested before it is destroyed; the head stays what it is', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { asked, records } = harvestable(world);
    const { workspaceId, primary, base, failover } = await failOver(world);
    expect(asked).toEqual([primary]);
    const [branch] = await branchesOfOperation(world.truth, failover.id);
    expect(branch).toMatchObject({ instanceId: primary, epoch: 1, baseSnapshotId: base.snapshotId, state: 'open' });
    expect(branch?.record.snapshotId).toBe(records[0]?.snapshotId);
    expect((await world.workspace(workspaceId)).headSnapshotId).toBe(base.snapshotId);
    expect((await world.instance(primary)).state).toBe('gone');
    // Nothing more of the store is its.
    expect(world.agents.assignments.get(primary)).toMatchObject({ standing: 'fenced', storage: null });
    const report = await buildFailoverReport(world.truth, failover.id, world.clock.nowMs());
    expect(report.branches).toMatchObject([{ branchId: branch?.id, addedCount: 1, changedBytes: 5 }]);
    const events = await closing(world, workspaceId, failover.id);
    expect(events).toMatchObject([{ type: 'branch.harvested', data: { branchId: branch?.id } }]);
  });

  test('a machine that cannot store what it held, or is not to, is destroyed all the same', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    world.agents.answers.harvest = () => Promise.reject(new DumontError('IO', 'the disk is broken'));
    const failed = await failOver(world);
    expect((await world.instance(failed.primary)).state).toBe('gone');
    expect(await closing(world, failed.workspaceId, failed.failover.id)).toMatchObject([
      { type: 'branch.not-harvested', data: { outcome: 'failed', reason: 'the disk is broken' } },
    ]);
    expect(world.agents.toldTo('harvest')).toHaveLength(1);
  });

  test('a policy without branches, and a machine that says nothing, cost no time', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    harvestable(world);
    const unwanted = await failOver(world, { ...POLICY, branches: { harvest: false } });
    expect((await world.instance(unwanted.primary)).state).toBe('gone');
    const silent = await world.served('silent', POLICY);
    world.kill(silent.primary);
    world.say('commit', silent.primary);
    const { id } = await world.failover(silent.workspaceId, ['completed']);
    expect((await world.instance(silent.primary)).state).toBe('gone');
    expect(await closing(world, silent.workspaceId, id)).toEqual([]);
    expect(world.agents.toldTo('harvest')).toEqual([]);
  });

  test('a silent machine is waited for as long as the policy says, and its successor is not kept waiting for that', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    harvestable(world);
    const { workspaceId, primary } = await world.served('w', { ...POLICY, branches: { waitMs: 2_000 } });
    world.kill(primary);
    world.say('commit', primary);
    const { id } = await world.failover(workspaceId, ['completed']);
    expect((await world.instance(primary)).state).toBe('gone');
    expect(await closing(world, workspaceId, id)).toMatchObject([
      { type: 'branch.not-harvested', data: { outcome: 'failed', reason: 'the machine did not come back' } },
    ]);
    // The next one is lost while its predecessor is waited for: the wait ends.
    const second = await world.served('x', { ...POLICY, branches: { waitMs: 600_000 } });
    world.kill(second.primary);
    world.say('commit', second.primary);
    await world.failover(second.workspaceId, ['releasing']);
    const successor = await world.primaryOf(second.workspaceId);
    world.kill(successor);
    world.say('commit', successor);
    const done = await world.failover(second.workspaceId, ['completed']);
    expect(done.state).toBe('completed');
    await eventually('the second successor serves', async () => {
      const { primaryInstanceId } = await world.workspace(second.workspaceId);
      return primaryInstanceId !== null && primaryInstanceId !== successor;
    });
  });
});
