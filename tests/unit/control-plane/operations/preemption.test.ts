import { buildFailoverReport } from '@dumont/control-plane/operations/failover-report.ts';
import { NoticeDesk } from '@dumont/control-plane/operations/notice-desk.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { expect, test } from 'vitest';
import { onEachDatabase } from '../../../world/databases.ts';
import { eventually } from '../../../world/eventually.ts';
import { someSnapshot } from '../../../world/rows.ts';
import { OperationsWorld } from './operations-world.ts';

const GOING = { type: 'leaving', source: 'gcp', withinMs: 30_000 } as const;

async function eventsOf(world: OperationsWorld, ...types: readonly string[]) {
  const rows = await world.truth.query('select type, data from events where type = any($1) order by id', [types]);
  return rows.map(({ type, data }) => ({ type, data }));
}

onEachDatabase((database) => {
  test('a machine that is taken back is left while it still runs, and hands over in good order', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    await using desk = new NoticeDesk(world.parts, world.runner);
    const { workspaceId, primary } = await world.served();
    await world.publish(primary, someSnapshot());
    desk.onNotice(primary, GOING);
    // Said twice, as by an agent that is then stopped: it leaves once.
    desk.onNotice(primary, GOING);
    const { id } = await world.failover(workspaceId, ['completed']);
    const ofOld = world.agents.commands.filter(({ instanceId }) => instanceId === primary).map(({ name }) => name);
    expect(ofOld.slice(-2)).toEqual(['stop-workload', 'snapshot']);
    const report = await buildFailoverReport(world.db, id, world.clock.nowMs());
    expect(report).toMatchObject({ trigger: 'preempted', success: true, rpoMs: 0, from: { instanceId: primary } });
    expect(await world.failovers(workspaceId)).toHaveLength(1);
    const preempted = { type: 'instance.preempted', data: { source: 'gcp', withinMs: 30_000 } };
    expect(await eventsOf(world, 'instance.preempted')).toEqual([preempted, preempted]);
  });

  test('one that goes before it could save is fenced when it is found lost, not kept', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    await using desk = new NoticeDesk(world.parts, world.runner);
    const { workspaceId, primary } = await world.served();
    await world.publish(primary, someSnapshot());
    world.agents.answers.snapshot = () => Promise.reject(new DumontError('IO', 'disk full'));
    desk.onNotice(primary, GOING);
    await eventually('it was asked to save', () => world.agents.toldTo('snapshot').length > 0);
    world.kill(primary);
    world.say('confirm', primary);
    world.say('commit', primary);
    const { id } = await world.failover(workspaceId, ['completed']);
    expect(await buildFailoverReport(world.db, id, world.clock.nowMs())).toMatchObject({ success: true });
    expect(await world.failovers(workspaceId)).toHaveLength(1);
  });

  test('an agent that is told to stop moves nothing, and what anybody says is written down', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const { workspaceId, primary } = await world.served();
    const words = {
      safeFiles: 2,
      safeBytes: 20,
      unsafeFiles: 1,
      unsafeBytes: 5,
      unsafePaths: ['late'],
      standbyBehindBytes: null,
      snapshotId: null,
      tookMs: 12,
    };
    {
      await using desk = new NoticeDesk(world.parts, world.runner);
      desk.onNotice(primary, { type: 'leaving', source: 'sigterm', withinMs: 8_000 });
      desk.onNotice(primary, { type: 'last-words', words });
      desk.onNotice(primary, { type: 'soft-error', source: 'pre-stop', message: 'exit code 1' });
    }
    expect(await world.failovers(workspaceId)).toEqual([]);
    expect(await eventsOf(world, 'agent.stopping', 'instance.last-words', 'workload.soft-error')).toEqual([
      { type: 'agent.stopping', data: { source: 'sigterm', withinMs: 8_000 } },
      { type: 'instance.last-words', data: words },
      { type: 'workload.soft-error', data: { source: 'pre-stop', message: 'exit code 1' } },
    ]);
  });
});
