import { failoverTestKind } from '@dumont/control-plane/operations/failover-test.ts';
import { anyKind } from '@dumont/control-plane/operations/operation-kind.ts';
import { OperationRunner } from '@dumont/control-plane/operations/runner.ts';
import { simulateFailover } from '@dumont/control-plane/operations/simulate-failover.ts';
import { startFailoverTest } from '@dumont/control-plane/operations/start-test.ts';
import { buildTestReport } from '@dumont/control-plane/operations/test-report.ts';
import type { OperationId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { expect, test } from 'vitest';
import { onEachDatabase } from '../../../world/databases.ts';
import { eventually } from '../../../world/eventually.ts';
import { someSnapshot } from '../../../world/rows.ts';
import { OperationsWorld } from './operations-world.ts';

const STEPS = ['snapshotting', 'searching', 'provisioning', 'restoring', 'verifying', 'checking', 'destroying'];

/** A served workspace with a snapshot. */
async function served(world: OperationsWorld) {
  const { workspaceId, primary } = await world.served();
  await world.publish(primary, someSnapshot());
  return { workspaceId, primary };
}

async function begin(world: OperationsWorld, workspaceId: WorkspaceId, model?: string): Promise<OperationId> {
  const id = await startFailoverTest(world.parts, await world.workspace(workspaceId), { model, check: undefined });
  world.runner.nudge();
  return id;
}

const reportOf = (world: OperationsWorld, id: OperationId) => buildTestReport(world.truth, id, world.clock.nowMs());

onEachDatabase((database) => {
  test('a test restores, verifies and asks the model on its own machine, and leaves the primary and nothing else', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await served(world);
    const id = await begin(world, workspaceId, 'llama3.2');
    expect((await world.finished(id)).state).toBe('completed');
    const report = await reportOf(world, id);
    expect(report).toMatchObject({ success: true, workspaceName: 'w', folder: { ok: true }, check: { ok: true } });
    expect(report.steps.map(({ step }) => step)).toEqual(STEPS);
    expect(report.evidence.map(({ ok }) => ok)).not.toContain(false);
    const tested = must(report.machines[0], 'one was rented').instanceId;
    expect(tested).not.toBe(primary);
    // What runs the workload is the trial; the primary was asked for a snapshot alone.
    const asked = (who: string) =>
      world.agents.commands.filter((each) => each.instanceId === who).map(({ name }) => name);
    expect(asked(tested)).toEqual(['restore', 'verify-restore', 'trial-workload']);
    expect(asked(primary).at(-1)).toBe('snapshot');
    expect(world.agents.assignments.get(tested as typeof primary)?.standing).not.toBe('primary');
    expect(await world.workspace(workspaceId)).toMatchObject({ epoch: 1, primaryInstanceId: primary });
    expect(await world.failovers(workspaceId)).toEqual([]);
    expect(world.provider.machines.size).toBe(1);
  });

  test('one byte that differs fails the test', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId } = await served(world);
    world.agents.answers['verify-restore'] = () => {
      const hashes = { expectedTree: 'ab'.repeat(32), actualTree: 'cd'.repeat(32) };
      const counts = { fileCount: 3, entryCount: 4, bytes: 9, differenceCount: 1, tookMs: 1 };
      const folder = { ok: false, differences: ['model.bin: other content'], ...hashes, ...counts };
      return Promise.resolve({ name: 'verify-restore', folder });
    };
    const id = await begin(world, workspaceId);
    expect((await world.finished(id)).error).toContain('model.bin: other content');
    const report = await reportOf(world, id);
    expect(report.evidence.filter(({ ok }) => !ok)).toMatchObject([{ detail: expect.stringContaining('model.bin') }]);
    expect(world.provider.machines.size).toBe(1);
  });

  test('a primary that is lost during a test is replaced as if there were none', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await served(world);
    const held = Promise.withResolvers<never>();
    world.agents.answers['verify-restore'] = () => held.promise;
    const id = await begin(world, workspaceId);
    await eventually('the test verifies', async () => (await reportOf(world, id)).state === 'verifying');
    const tested = must((await reportOf(world, id)).machines[0], 'it was rented').instanceId;
    world.kill(primary);
    world.say('confirm', primary);
    world.say('commit', primary);
    await world.failover(workspaceId, ['completed']);
    const successor = await world.primaryOf(workspaceId);
    expect([primary, tested]).not.toContain(successor);
    expect(await world.runner.interrupt(id, 'cancelled', { failure: 'cancelled by an operator' })).toBe(true);
    expect((await world.finished(id)).state).toBe('failed');
    const report = await reportOf(world, id);
    expect(report.evidence.find(({ claim }) => claim.includes('primary is'))).toMatchObject({ ok: false });
    expect(report.evidence.find(({ claim }) => claim.includes('lease'))).toMatchObject({ ok: true });
    await eventually('only the successor is left', () => world.provider.machines.size === 1);
  });

  test('a workspace has one test at a time, and a model needs a workload', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId } = await served(world);
    const both = await Promise.allSettled([begin(world, workspaceId), begin(world, workspaceId)]);
    expect(both.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
    const { workspaceId: bare } = await world.served('bare', {});
    await expect(begin(world, bare, 'llama3.2')).rejects.toMatchObject({ code: 'USAGE', field: 'model' });
  });

  test('a control plane that ends in the middle is followed by one that goes on and destroys', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await served(world);
    const held = Promise.withResolvers<never>();
    world.agents.answers['verify-restore'] = () => held.promise;
    const id = await begin(world, workspaceId);
    await eventually('the test verifies', async () => (await reportOf(world, id)).state === 'verifying');
    await world.runner[Symbol.asyncDispose]();
    delete world.agents.answers['verify-restore'];
    const kinds = [anyKind(failoverTestKind(world.parts))];
    await using next = new OperationRunner({ ...world.parts, kinds, owner: 'the next', leaseMs: 400_000 });
    next.start();
    expect((await next.waitFor(id, AbortSignal.timeout(20_000))).state).toBe('completed');
    expect((await reportOf(world, id)).machines).toHaveLength(1);
    expect(await world.workspace(workspaceId)).toMatchObject({ epoch: 1, primaryInstanceId: primary });
    expect(world.provider.machines.size).toBe(1);
  });

  test('a simulation ranks offers, says what it expects on which grounds, and rents nothing', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId } = await served(world);
    const orders = world.provider.orders.length;
    const fleet = { isConnected: () => true, lastBeat: () => undefined };
    const simulate = () =>
      simulateFailover({ ...world.parts, fleet }, workspaceId, { signal: new AbortController().signal });
    const simulation = await simulate();
    expect(simulation).toMatchObject({ possible: true, blockers: [], machinesAtOnce: 1, loss: { from: 'snapshot' } });
    expect(simulation.offers.map(({ rank }) => rank)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(simulation.phases.every(({ basis }) => basis === 'assumed')).toBe(true);
    expect(simulation.expectedCostMicroUsd).toBeGreaterThan(0);
    world.provider.offers = world.provider.offers.map((offer) => ({ ...offer, reliability: 0.1 }));
    const hopeless = await simulate();
    expect(hopeless.possible).toBe(false);
    expect(hopeless.blockers[0]).toContain('below the least reliability');
    expect(world.provider.orders).toHaveLength(orders);
  });
});
