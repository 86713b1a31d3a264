import { expect, test } from 'vitest';
import { findEnrolment } from '@dumont/control-plane/store/enrolments.ts';
import { listLedger } from '@dumont/control-plane/store/ledger.ts';
import { hashSecret } from '@dumont/control-plane/workspaces/credentials.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { onEachDatabase } from '../../../world/databases.ts';
import { LABEL_PREFIX, LedgerWorld } from './ledger-world.ts';

onEachDatabase((database) => {
  test('an order is in the books before the provider hears of it, and bills from its answer on', async () => {
    await using opened = await database.open();
    const world = await LedgerWorld.make(opened.db);
    const answer = Promise.withResolvers<void>();
    world.provider.gate = answer.promise;
    const requestedAtMs = world.clock.nowMs();
    const renting = world.rent();
    await expect.poll(() => world.provider.orders.length).toBe(1);
    const [underWay] = await listLedger(world.db, { includeGone: false, limit: 10 });
    world.clock.skip(1_000);
    answer.resolve();
    const instanceId = await renting;
    const label = `${LABEL_PREFIX}${instanceId}`;
    expect(underWay).toMatchObject({ instanceId, label, providerRef: null, rentedAtMs: null });
    expect(await world.ledger(instanceId)).toMatchObject({
      requestedAtMs,
      rentedAtMs: requestedAtMs + 1_000,
      providerRef: 'machine-1',
      goneAtMs: null,
    });
    expect(await world.instance(instanceId)).toMatchObject({ state: 'booting', providerRef: 'machine-1' });
    expect(await world.events()).toEqual(['machine.requested', 'machine.rented']);
  });

  test('each machine gets a one-time token of its own, of which the database keeps the hash alone', async () => {
    await using opened = await database.open();
    const world = await LedgerWorld.make(opened.db);
    const ids = [await world.rent(), await world.rent()];
    const tokens = world.provider.orders.map(({ agentEnvironment }) => agentEnvironment['DUMONT_ENROL_TOKEN']);
    expect(new Set(tokens).size).toBe(2);
    for (const [index, id] of ids.entries()) {
      const token = must(tokens[index], 'the machine got a token');
      const expiresAtMs = world.clock.nowMs() + 600_000;
      expect(await findEnrolment(world.db, id)).toMatchObject({ hash: hashSecret(token), usedAtMs: null, expiresAtMs });
      expect((await world.instance(id)).credentialHash).toBeNull();
    }
    const everything = await world.db.query('select * from instances, ledger, events, enrolment_tokens');
    for (const token of tokens) expect(JSON.stringify(everything)).not.toContain(token);
  });

  test.each(['refused', 'offer-gone'] as const)('an order that is %s closes its row at once', async (fate) => {
    await using opened = await database.open();
    const world = await LedgerWorld.make(opened.db);
    world.provider.fates.push(fate);
    expect((await world.renter.rent(world.offer, world.signal)).kind).toBe(fate);
    expect(await world.ledger(world.ordered)).toMatchObject({ goneAtMs: world.clock.nowMs(), rentedAtMs: null });
    expect((await world.instance(world.ordered)).state).toBe('gone');
    expect(await world.sweep()).toBe(0);
    expect(world.provider.destroyed).toEqual([]);
  });

  test.each([
    ['whose answer is lost', 'lost-answer', 'the answer was lost'],
    ['that fails', 'throws', 'no answer to the order'],
  ] as const)('an order %s is asked back, and closed when the machine is proven gone', async (_, fate, reason) => {
    await using opened = await database.open();
    const world = await LedgerWorld.make(opened.db);
    world.provider.fates.push(fate);
    const outcome = await world.renter.rent(world.offer, world.signal);
    expect(outcome).toEqual({ kind: 'refused', reason });
    expect(world.releaseCount).toBe(1);
    expect((await world.instance(world.ordered)).state).toBe('releasing');
    expect(await world.sweep(1)).toBe(1);
    expect(await world.sweep(2)).toBe(0);
    expect(world.provider.machines.size).toBe(0);
    expect(world.gone).toEqual([world.ordered]);
  });

  test('after a crash in the middle of an order the machine is found by its label and adopted', async () => {
    await using opened = await database.open();
    const world = await LedgerWorld.make(opened.db);
    // The process dies while the order is under way: nothing after this is written.
    world.provider.gate = new Promise(() => {});
    void world.renter.rent(world.offer, world.signal);
    await expect.poll(() => world.provider.orders.length).toBe(1);
    world.provider.place('ref-lost', must(world.provider.orders.at(-1), 'it was ordered').label);
    expect((await world.ledger(world.ordered)).providerRef).toBeNull();

    expect(await world.renter.adopt(world.signal)).toEqual([world.ordered]);
    expect(await world.ledger(world.ordered)).toMatchObject({ providerRef: 'ref-lost', releaseAskedAtMs: null });
    expect(await world.instance(world.ordered)).toMatchObject({ state: 'booting', providerRef: 'ref-lost' });
    expect(await world.renter.adopt(world.signal)).toEqual([world.ordered]);
  });

  test('after a crash before the provider heard the order it is given back, not adopted', async () => {
    await using opened = await database.open();
    const world = await LedgerWorld.make(opened.db);
    world.provider.gate = new Promise(() => {});
    void world.renter.rent(world.offer, world.signal);
    await expect.poll(() => world.provider.orders.length).toBe(1);
    expect(await world.renter.adopt(world.signal)).toEqual([]);
    expect((await world.instance(world.ordered)).state).toBe('releasing');
    expect(await world.sweep(2)).toBe(0);
  });

  test('machines that were lost, given back or promoted before are not adopted', async () => {
    await using opened = await database.open();
    const world = await LedgerWorld.make(opened.db);
    const [lost, released, promoted, booting] = [
      await world.rent(),
      await world.rent(),
      await world.rent(),
      await world.rent(),
    ];
    await world.db.query("update instances set state = 'lost' where id = $1", [lost]);
    await world.renter.release(released, 'no longer wanted');
    await world.db.query('update instances set epoch = 1 where id = $1', [promoted]);
    expect(await world.renter.adopt(world.signal)).toEqual([booting]);
  });

  test('a machine is ready when its agent speaks, and failed when the provider gives it up', async () => {
    await using opened = await database.open();
    const world = await LedgerWorld.make(opened.db);
    const [good, bad] = [await world.rent(), await world.rent()];
    world.connected.add(good);
    expect(await world.renter.waitReady(good, world.signal)).toEqual({ kind: 'ready' });
    const machine = must(world.provider.machines.get('machine-2'), 'it was created');
    world.provider.machines.set('machine-2', { ...machine, status: 'failed' });
    const waiting = world.renter.waitReady(bad, world.signal);
    let isOver = false;
    void waiting.then(() => (isOver = true));
    await expect
      .poll(async () => {
        await world.clock.advance(1_000);
        return isOver;
      })
      .toBe(true);
    expect(await waiting).toMatchObject({ kind: 'failed' });
  });

  test('a release is asked for once, and keeps its first reason', async () => {
    await using opened = await database.open();
    const world = await LedgerWorld.make(opened.db);
    const instanceId = await world.rent();
    await world.renter.release(instanceId, 'the first reason');
    const { releaseAskedAtMs } = await world.ledger(instanceId);
    world.clock.skip(5_000);
    await world.renter.release(instanceId, 'another reason');
    expect(await world.ledger(instanceId)).toMatchObject({ releaseAskedAtMs, outcome: 'the first reason' });
    expect((await world.events()).filter((type) => type === 'machine.releasing')).toHaveLength(1);
  });
});
