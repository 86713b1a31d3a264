import { LedgerRenter } from '@dumont/control-plane/provisioning/ledger-renter.ts';
import { Sweeper } from '@dumont/control-plane/provisioning/sweeper.ts';
import type { Database } from '@dumont/control-plane/store/database.ts';
import { findInstance } from '@dumont/control-plane/store/instances.ts';
import { findLedger } from '@dumont/control-plane/store/ledger.ts';
import { insertOperation } from '@dumont/control-plane/store/operations.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { expect, test } from 'vitest';
import { onEachDatabase } from '../../../world/databases.ts';
import { eventually } from '../../../world/eventually.ts';
import { ManualClock } from '../../../world/manual-clock.ts';
import { MemoryProvider } from '../../../world/memory-provider.ts';
import { someWorkspace } from '../../../world/rows.ts';
import { ScriptedAgents } from '../operations/scripted-agents.ts';

const LABEL_PREFIX = 'dumont-mine-';
const GAP_MS = 400;
const IDLE_MS = 2_000;
const never = new AbortController().signal;

/** One workspace under an unfinished operation, its renter, and sweepers that a test runs round by round. */
async function worldOn(db: Database) {
  const clock = new ManualClock();
  const provider = new MemoryProvider();
  const agents = new ScriptedAgents(clock);
  const log = createLogger('test', 'silent');
  const gone: string[] = [];
  const providers = new Map([[provider.name, provider]]);
  const ground = { db, clock, log, providers, labelPrefix: LABEL_PREFIX, onChange: () => {} };
  const workspaceId = await someWorkspace(db);
  const operationId = newId('operation');
  await insertOperation(db, { id: operationId, kind: 'failover', workspaceId, state: 'searching', data: {}, atMs: 1 });
  const bounds = { enrolTokenMs: 600_000, startScriptMs: 90_000 };
  const renterParts = { ...ground, ...bounds, presence: agents, agentEnvironment: {}, onRelease: () => {} };
  const renter = new LedgerRenter(renterParts, { workspaceId, operationId });
  const sweeper = () =>
    new Sweeper({
      ...ground,
      busyPeriodMs: 500,
      goneGapMs: GAP_MS,
      idlePeriodMs: IDLE_MS,
      onGone: (id) => void gone.push(id),
    });
  const rent = async () => {
    const outcome = await renter.rent(must(provider.offers[0], 'an offer'), never);
    if (outcome.kind !== 'rented') throw new Error(`order came to ${outcome.kind}`);
    return outcome.instanceId;
  };
  const finishOperation = () => db.query('update operations set finished_at = 2 where id = $1', [operationId]);
  return { clock, provider, agents, providers, renter, sweeper, rent, gone, finishOperation };
}

onEachDatabase((database) => {
  test('a machine whose order is under way is neither a stranger nor forgotten', async () => {
    await using opened = await database.open();
    const world = await worldOn(opened.db);
    const answer = Promise.withResolvers<void>();
    world.provider.gate = answer.promise;
    const renting = world.rent();
    const order = await eventually('the order is placed', () => world.provider.orders[0]);
    // The provider has made the machine, its answer is on the way.
    world.provider.place('early', order.label);
    await world.sweeper().sweep();
    await world.sweeper().sweep();
    expect(world.provider.destroyed).toEqual([]);
    world.provider.machines.clear();
    answer.resolve();
    const instanceId = await renting;
    expect((await findInstance(opened.db, instanceId))?.state).toBe('booting');
    expect(await findLedger(opened.db, instanceId)).toMatchObject({ releaseAskedAtMs: null, goneAtMs: null });
  });

  test('a machine is gone once the provider denied it twice with time in between, however often it is asked', async () => {
    await using opened = await database.open();
    const world = await worldOn(opened.db);
    const instanceId = await world.rent();
    await world.renter.release(instanceId, 'test');
    await world.renter.release(instanceId, 'again');
    // Two processes, and a nudge: none of these rounds is far enough from the first.
    const [mine, anothers] = [world.sweeper(), world.sweeper()];
    for (const sweeper of [mine, anothers, mine]) expect(await sweeper.sweep()).toEqual({ open: 1 });
    expect(world.gone).toEqual([]);
    await world.clock.advance(GAP_MS);
    expect(await anothers.sweep()).toEqual({ open: 0 });
    expect(world.gone).toEqual([instanceId]);
    expect(await findLedger(opened.db, instanceId)).toMatchObject({ outcome: 'test', goneConfirmations: 2 });
    expect((await findInstance(opened.db, instanceId))?.state).toBe('gone');
    expect(await mine.sweep()).toEqual({ open: 0 });
    expect(world.gone).toEqual([instanceId]);
  });

  test('a wall clock that steps back delays the proof by one gap, not by the step', async () => {
    await using opened = await database.open();
    const world = await worldOn(opened.db);
    const instanceId = await world.rent();
    await world.renter.release(instanceId, 'test');
    const sweeper = world.sweeper();
    await sweeper.sweep();
    world.clock.stepWall(-3_600_000);
    await sweeper.sweep();
    expect(world.gone).toEqual([instanceId]);
  });

  test('a machine that is shown again after a denial is destroyed anew and the count starts over', async () => {
    await using opened = await database.open();
    const world = await worldOn(opened.db);
    const instanceId = await world.rent();
    const { providerRef, label } = must(await findLedger(opened.db, instanceId), 'the machine is in the books');
    await world.renter.release(instanceId, 'test');
    const sweeper = world.sweeper();
    await sweeper.sweep();
    await world.clock.advance(GAP_MS);
    world.provider.place(must(providerRef, 'it was rented'), label);
    world.provider.destroy = async () => {};
    await sweeper.sweep();
    expect(await findLedger(opened.db, instanceId)).toMatchObject({ goneConfirmations: 0, goneAtMs: null });
    world.provider.machines.clear();
    await sweeper.sweep();
    expect(world.gone).toEqual([]);
    await world.clock.advance(GAP_MS);
    await sweeper.sweep();
    expect(world.gone).toEqual([instanceId]);
  });

  test('strangers with our label are destroyed, machines of other installations are not', async () => {
    await using opened = await database.open();
    const world = await worldOn(opened.db);
    const held = await world.rent();
    world.provider.place('stranger', `${LABEL_PREFIX}${newId('instance')}`);
    world.provider.place('theirs', `dumont-theirs-${newId('instance')}`);
    world.provider.place('private', 'my-own-machine');
    await world.sweeper().sweep();
    const { label } = must(await findLedger(opened.db, held), 'the machine is in the books');
    const left = [...world.provider.machines.values()].map((machine) => machine.label);
    expect(left).toEqual([label, expect.stringContaining('dumont-theirs-'), 'my-own-machine']);
  });

  test('a machine that appears after its order was written off is a stranger', async () => {
    await using opened = await database.open();
    const world = await worldOn(opened.db);
    world.provider.fates.push('throws');
    await world.renter.rent(must(world.provider.offers[0], 'an offer'), never);
    const sweeper = world.sweeper();
    await sweeper.sweep();
    await world.clock.advance(GAP_MS);
    await sweeper.sweep();
    expect(world.gone).toHaveLength(1);
    world.provider.place('late', must(world.provider.orders[0], 'the order').label);
    await world.clock.advance(IDLE_MS);
    await sweeper.sweep();
    expect(world.provider.machines.size).toBe(0);
  });

  test('a machine is forgotten only when its operation is over and no workspace has it', async () => {
    await using opened = await database.open();
    const world = await worldOn(opened.db);
    const instanceId = await world.rent();
    const look = async () => {
      await world.clock.advance(IDLE_MS);
      await world.sweeper().sweep();
      return (await findInstance(opened.db, instanceId))?.state;
    };
    expect(await look()).toBe('booting');
    await opened.db.query('update workspaces set endpoint_instance_id = $1', [instanceId]);
    await world.finishOperation();
    expect(await look()).toBe('booting');
    await opened.db.query('update workspaces set endpoint_instance_id = null');
    expect(await look()).toBe('releasing');
    expect(await findLedger(opened.db, instanceId)).toMatchObject({ outcome: 'nothing holds it any more' });
  });

  test('a provider that does not answer is asked again for ever, and holds up no other', async () => {
    await using opened = await database.open();
    const world = await worldOn(opened.db);
    const hanging = new MemoryProvider();
    hanging.list = () => new Promise(() => {});
    const instanceId = await world.rent();
    await world.renter.release(instanceId, 'test');
    world.provider.isDown = true;
    const sweeper = world.sweeper();
    for (let round = 0; round < 20; round += 1) {
      expect(await sweeper.sweep()).toEqual({ open: 1 });
      await world.clock.advance(500);
    }
    world.provider.isDown = false;
    world.providers.set('hanging', hanging);
    world.provider.place('stranger', `${LABEL_PREFIX}${newId('instance')}`);
    await world.clock.advance(IDLE_MS);
    void sweeper.sweep();
    await eventually('the stranger is destroyed', () => !world.provider.machines.has('stranger'));
    world.providers.delete('hanging');
    await world.sweeper().sweep();
    await world.clock.advance(GAP_MS);
    await world.sweeper().sweep();
    expect(world.gone).toEqual([instanceId]);
  });

  test('a call of a provider is given up after half a minute of the clock, not of the test', async () => {
    await using opened = await database.open();
    const world = await worldOn(opened.db);
    const hanging = new MemoryProvider();
    const asked = Promise.withResolvers<AbortSignal>();
    hanging.list = (options) => {
      const signal = must(options?.signal, 'calls have a signal');
      asked.resolve(signal);
      return new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
      });
    };
    world.providers.set('hanging', hanging);
    const sweep = world.sweeper().sweep();
    const signal = await asked.promise;
    await world.clock.advance(29_999);
    expect(signal.aborted).toBe(false);
    await world.clock.advance(1);
    expect(await sweep).toEqual({ open: 0 });
    expect(signal.reason).toMatchObject({ name: 'TimeoutError' });
  });

  test('after a crash a rental that was cut short is found by its label, or given back when there is none', async () => {
    await using opened = await database.open();
    const world = await worldOn(opened.db);
    const found = await world.rent();
    const lost = await world.rent();
    for (const id of [found, lost]) {
      await opened.db.query('update instances set provider_ref = null where id = $1', [id]);
      await opened.db.query('update ledger set provider_ref = null where instance_id = $1', [id]);
    }
    for (const [ref, { label }] of world.provider.machines)
      if (label.endsWith(lost)) world.provider.machines.delete(ref);
    expect(await world.renter.adopt(never)).toEqual([found]);
    expect(await findInstance(opened.db, found)).toMatchObject({ providerRef: 'machine-1' });
    expect((await findInstance(opened.db, lost))?.state).toBe('releasing');
    expect(await world.renter.adopt(never)).toEqual([found]);
  });
});
