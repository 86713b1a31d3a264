import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { AgentFacts } from '@dumont/control-plane/upgrades/agent-facts.ts';
import type { Database } from '@dumont/control-plane/store/database.ts';
import { listEvents } from '@dumont/control-plane/store/events.ts';
import { findInstance } from '@dumont/control-plane/store/instances.ts';
import { insertOperation } from '@dumont/control-plane/store/operations.ts';
import { AgentUpgrades } from '@dumont/control-plane/upgrades/agent-upgrades.ts';
import { recordUpgrade, rolledBackVersions } from '@dumont/control-plane/upgrades/upgrade-history.ts';
import type { InstanceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import type { Action } from '@dumont/shared/protocol/command.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { expect, test } from 'vitest';
import { releaseOf } from '../../../world/agent-release.ts';
import { onEachDatabase } from '../../../world/databases.ts';
import { eventually } from '../../../world/eventually.ts';
import { someInstance, someWorkspace } from '../../../world/rows.ts';
import { makeTempFolder } from '../../../world/temp-folder.ts';

/** Agents that obey by coming back as what they were told to be, unless scripted otherwise. */
async function worldOn(db: Database, mode: 'manual' | 'auto' = 'manual') {
  const folder = await makeTempFolder();
  const agents = new Map<InstanceId, AgentFacts>();
  const told: { readonly instanceId: InstanceId; readonly to: string; readonly downloadUrl: string }[] = [];
  const script = {
    obey: (instanceId: InstanceId, to: string): Promise<void> | void => {
      agents.set(instanceId, { version: to, bootId: newId('command'), upgradable: true });
    },
  };
  const upgrades = new AgentUpgrades({
    db,
    fleet: { agent: (id) => agents.get(id) },
    hub: {
      run: async (instanceId, action: Action) => {
        if (action.name !== 'upgrade') throw new Error(`not expected: ${action.name}`);
        const { version: to } = action.release;
        const from = must(agents.get(instanceId), 'it is connected').version;
        told.push({ instanceId, to, downloadUrl: action.downloadUrl });
        await script.obey(instanceId, to);
        return { name: 'upgrade', from, to };
      },
    },
    clock: systemClock,
    log: createLogger('test', 'silent'),
    downloadsDir: folder.path,
    mode,
    onChange: () => {},
  });
  const release = async (version: string) => {
    await mkdir(join(folder.path, version));
    const text = JSON.stringify(releaseOf(version, Buffer.from(version)).release);
    await writeFile(join(folder.path, version, 'release.json'), text);
  };
  const machine = async (version = '1.0.0', upgradable = true) => {
    const workspaceId = await someWorkspace(db);
    const id = await someInstance(db, workspaceId);
    agents.set(id, { version, bootId: newId('command'), upgradable });
    return must(await findInstance(db, id), 'it was just written');
  };
  const history = async () =>
    (await listEvents(db, { after: 0, limit: 100 })).map(({ type, data }) => ({ type, data }));
  return {
    upgrades,
    agents,
    told,
    script,
    release,
    machine,
    history,
    async [Symbol.asyncDispose]() {
      await upgrades[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

onEachDatabase((database) => {
  test('an order brings an agent to the newest release; who cannot or need not is told why', async () => {
    await using owned = await database.open();
    await using world = await worldOn(owned.db);
    const [fit, current, bare] = [
      await world.machine(),
      await world.machine('1.1.0'),
      await world.machine('1.0.0', false),
    ];
    const away = await world.machine();
    world.agents.delete(away.id);
    await expect(world.upgrades.order([fit], { force: false })).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    await world.release('1.1.0');
    await world.release('0.9.0');
    await expect(world.upgrades.order([fit], { version: '3.0.0', force: false })).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
    const { version, agents } = await world.upgrades.order([fit, current, bare, away], { force: false });
    expect([version, ...agents.map(({ outcome }) => outcome)]).toEqual([
      '1.1.0',
      'ordered',
      'current',
      'refused',
      'refused',
    ]);
    const older = await world.upgrades.order([fit], { version: '0.9.0', force: false });
    expect(older.agents).toMatchObject([{ outcome: 'refused' }]);
    world.upgrades.start();
    await eventually('it is done', () => world.upgrades.state(fit.id) === null);
    expect(world.told).toEqual([{ instanceId: fit.id, to: '1.1.0', downloadUrl: '/downloads/1.1.0/' }]);
    expect(await world.history()).toEqual([{ type: 'agent.upgrade-offered', data: { from: '1.0.0', to: '1.1.0' } }]);
  });

  test('nobody is upgraded while its workspace is being moved', async () => {
    await using owned = await database.open();
    const { db } = owned;
    await using world = await worldOn(db);
    await world.release('1.1.0');
    const [moved, free] = [await world.machine(), await world.machine()];
    const { workspaceId } = moved;
    const id = newId('operation');
    await insertOperation(db, { id, kind: 'failover', workspaceId, state: 'searching', data: {}, atMs: 1 });
    await world.upgrades.order([moved, free], { force: false });
    world.upgrades.start();
    await eventually('the free one is done', () => world.upgrades.state(free.id) === null);
    expect(world.upgrades.state(moved.id)).toMatchObject({ state: 'waiting' });
    await db.query('update operations set finished_at = 2 where id = $1', [id]);
    await eventually('the other one as well', () => world.upgrades.state(moved.id) === null);
  });

  test('an agent that is back may be asked for the next version before its return was noticed here', async () => {
    await using owned = await database.open();
    await using world = await worldOn(owned.db);
    await world.release('1.1.0');
    await world.release('1.2.0');
    const machine = await world.machine();
    const obey = world.script.obey;
    world.script.obey = async (instanceId, to) => {
      await obey(instanceId, to);
      if (to === '1.2.0') return;
      const { agents } = await world.upgrades.order([machine], { version: '1.2.0', force: false });
      expect(agents).toMatchObject([{ outcome: 'ordered' }]);
    };
    await world.upgrades.order([machine], { version: '1.1.0', force: false });
    world.upgrades.start();
    await eventually('both are done', () => world.agents.get(machine.id)?.version === '1.2.0');
    await eventually('nothing is left to do', () => world.upgrades.state(machine.id) === null);
    expect(world.told.map(({ to }) => to)).toEqual(['1.1.0', '1.2.0']);
  });

  test('an agent that refuses is shown and written down as failed', async () => {
    await using owned = await database.open();
    await using world = await worldOn(owned.db);
    await world.release('1.1.0');
    const machine = await world.machine();
    world.script.obey = () => Promise.reject(new DumontError('LIMIT', 'no room'));
    await world.upgrades.order([machine], { force: false });
    world.upgrades.start();
    await eventually('it failed', () => world.upgrades.state(machine.id)?.state === 'failed');
    expect(world.upgrades.state(machine.id)).toEqual({ to: '1.1.0', state: 'failed', error: 'no room' });
    await eventually('it is written down', async () => (await world.history()).length === 2);
    expect((await world.history())[1]).toMatchObject({
      type: 'agent.upgrade-failed',
      data: { outcome: 'refused', reason: 'no room' },
    });
  });

  test('by itself the newest release is offered to who is older, but not one that was rolled back anywhere', async () => {
    await using owned = await database.open();
    const { db } = owned;
    await using world = await worldOn(db, 'auto');
    for (const version of ['1.1.0', '1.2.0']) await world.release(version);
    const [old, newest, bare] = [
      await world.machine('1.0.0'),
      await world.machine('1.2.0'),
      await world.machine('1.0.0', false),
    ];
    const failed = { from: '1.1.0', to: '1.2.0', outcome: 'rolled-back', reason: 'it crashed' } as const;
    await recordUpgrade(db, bare, failed, 1_000);
    await recordUpgrade(db, bare, failed, 2_000);
    expect(await rolledBackVersions(db)).toEqual(new Set(['1.2.0']));
    world.upgrades.start();
    await eventually('the old one is upgraded', () => world.agents.get(old.id)?.version === '1.1.0');
    await eventually('nothing is left', () => world.upgrades.state(old.id) === null);
    expect(world.told.map(({ instanceId, to }) => [instanceId, to])).toEqual([[old.id, '1.1.0']]);
    expect(world.upgrades.state(newest.id)).toBeNull();
    expect((await world.history()).map(({ type }) => type)).toEqual([
      'agent.upgrade-failed',
      'agent.upgrade-failed',
      'agent.upgrade-offered',
    ]);
  });
});
