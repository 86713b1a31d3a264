import { expect, test } from 'vitest';
import {
  applyInstanceEvent,
  findInstance,
  listByOperation,
  listForgotten,
  listHeldByOperation,
  listInstances,
  setProviderRef,
} from '@dumont/control-plane/store/instances.ts';
import {
  askRelease,
  closeRefused,
  confirmGone,
  findLedger,
  findLedgerByLabel,
  listLedger,
  listReleasing,
  markRented,
  openLedgerRow,
  resetGone,
} from '@dumont/control-plane/store/ledger.ts';
import { ensureSetting } from '@dumont/control-plane/store/settings.ts';
import {
  fencePrimary,
  findWorkspace,
  insertWorkspace,
  listWithPrimary,
  listWorkspaces,
  moverOf,
  promotePrimary,
  setEndpoint,
} from '@dumont/control-plane/store/workspaces.ts';
import { insertOperation, saveProgress } from '@dumont/control-plane/store/operations.ts';
import { isUniqueViolation } from '@dumont/control-plane/store/serialization.ts';
import type { Queryable } from '@dumont/control-plane/store/database.ts';
import type { WorkspaceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { workspacePolicySchema } from '@dumont/shared/model/policy.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { onEachDatabase } from '../world/databases.ts';
import { someInstance, someOffer, someWorkspace } from '../world/rows.ts';

async function someOperation(db: Queryable, workspaceId: WorkspaceId) {
  const id = newId('operation');
  await insertOperation(db, { id, kind: 'failover', workspaceId, state: 'searching', data: {}, atMs: 1_000 });
  return id;
}

async function finishOperation(db: Queryable, id: Awaited<ReturnType<typeof someOperation>>) {
  await db.query(`update operations set lease_owner = 'me' where id = $1`, [id]);
  const change = { owner: 'me', fromState: 'searching', state: 'failed', data: {}, atMs: 2_000 };
  expect(await saveProgress(db, id, { ...change, finished: true, error: 'no', runAtMs: null })).toBe(true);
}

onEachDatabase((database) => {
  test('a workspace is found by id and by name, as it was written', async () => {
    await using opened = await database.open();
    const id = newId('workspace');
    const policy = workspacePolicySchema.parse({ raceWidth: 2, workload: { command: 'train "ü" \\ \n' } });
    await insertWorkspace(opened.db, { id, name: 'llama-70b', policy, atMs: 1_763_000_000_123 });
    const expected = {
      id,
      name: 'llama-70b',
      epoch: 0,
      primaryInstanceId: null,
      endpointInstanceId: null,
      headSnapshotId: null,
      standbyInstanceId: null,
      policy,
      createdAtMs: 1_763_000_000_123,
    };
    expect(await findWorkspace(opened.db, id)).toEqual(expected);
    expect(await findWorkspace(opened.db, 'llama-70b')).toEqual(expected);
    expect(await findWorkspace(opened.db, 'llama')).toBeUndefined();
    const again = insertWorkspace(opened.db, { id: newId('workspace'), name: 'llama-70b', policy, atMs: 1 });
    expect(isUniqueViolation(await again.catch((error: unknown) => error), 'workspaces_name_key')).toBe(true);
  });

  test('workspaces are paged by name without gaps or repeats', async () => {
    await using opened = await database.open();
    const names = Array.from({ length: 7 }, (_, index) => `ws-${index}`);
    for (const name of names.toReversed()) await someWorkspace(opened.db, name);
    const seen: string[] = [];
    for (;;) {
      const page = await listWorkspaces(opened.db, { after: seen.at(-1), limit: 3 });
      if (page.length === 0) break;
      seen.push(...page.map((row) => row.name));
    }
    expect(seen).toEqual(names);
  });

  test('fence and promote follow the epoch, and only a workspace with a primary is watched', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const workspaceId = await someWorkspace(db);
    const [first, second] = [await someInstance(db, workspaceId), await someInstance(db, workspaceId)];
    expect(await listWithPrimary(db)).toEqual([]);
    expect(await promotePrimary(db, workspaceId, first, 0)).toMatchObject({ primaryInstanceId: first, epoch: 0 });
    expect(await promotePrimary(db, workspaceId, first, 0)).toMatchObject({ primaryInstanceId: first });
    expect(await promotePrimary(db, workspaceId, second, 0)).toBeUndefined();
    expect((await listWithPrimary(db)).map((row) => row.id)).toEqual([workspaceId]);
    expect(await fencePrimary(db, workspaceId, second)).toBeUndefined();
    expect(await fencePrimary(db, workspaceId, first)).toMatchObject({ primaryInstanceId: null, epoch: 1 });
    expect(await fencePrimary(db, workspaceId, first)).toBeUndefined();
    expect(await promotePrimary(db, workspaceId, second, 0)).toBeUndefined();
    expect(await promotePrimary(db, workspaceId, second, 1)).toMatchObject({ primaryInstanceId: second, epoch: 1 });
    expect((await findInstance(db, second))?.epoch).toBe(1);
    await setEndpoint(db, workspaceId, second);
    expect((await findWorkspace(db, workspaceId))?.endpointInstanceId).toBe(second);
    await setEndpoint(db, workspaceId, null);
    expect((await findWorkspace(db, workspaceId))?.endpointInstanceId).toBeNull();
  });

  test('of many processes that fence the same primary one raises the epoch, and of many that promote one wins', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const workspaceId = await someWorkspace(db);
    const primary = await someInstance(db, workspaceId);
    await promotePrimary(db, workspaceId, primary, 0);
    const replacements = await Promise.all(Array.from({ length: 8 }, () => someInstance(db, workspaceId)));
    const fences = await Promise.all(
      replacements.map(() => db.transaction((tx) => fencePrimary(tx, workspaceId, primary))),
    );
    expect(fences.filter((row) => row !== undefined)).toMatchObject([{ epoch: 1 }]);
    const promotions = await Promise.all(
      replacements.map((instance) => db.transaction((tx) => promotePrimary(tx, workspaceId, instance, 1))),
    );
    expect(promotions.filter((row) => row !== undefined)).toHaveLength(1);
    expect(await findWorkspace(db, workspaceId)).toMatchObject({ epoch: 1 });
  });

  test('an instance goes through its life once, with the time of each turn', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const workspaceId = await someWorkspace(db);
    const id = await someInstance(db, workspaceId, { atMs: 10 });
    expect(await applyInstanceEvent(db, id, 'accepted', 20)).toEqual({ before: 'requested', after: 'booting' });
    expect(await applyInstanceEvent(db, id, 'agentReady', 30)).toEqual({ before: 'booting', after: 'ready' });
    expect(await applyInstanceEvent(db, id, 'accepted', 31)).toEqual({ before: 'ready', after: 'ready' });
    expect(await applyInstanceEvent(db, id, 'lost', 40)).toEqual({ before: 'ready', after: 'lost' });
    expect(await applyInstanceEvent(db, id, 'returned', 50)).toEqual({ before: 'lost', after: 'ready' });
    expect(await applyInstanceEvent(db, id, 'confirmedGone', 60)).toEqual({ before: 'ready', after: 'gone' });
    expect(await applyInstanceEvent(db, newId('instance'), 'lost', 60)).toBeUndefined();
    await setProviderRef(db, id, 'vast-77');
    expect(await findInstance(db, id)).toEqual({
      id,
      workspaceId,
      operationId: null,
      role: 'gpu',
      state: 'gone',
      epoch: null,
      credentialHash: null,
      nextCredentialHash: null,
      formerCredentialHash: null,
      offer: someOffer(),
      providerRef: 'vast-77',
      requestedAtMs: 10,
      readyAtMs: 30,
      lostAtMs: 40,
      goneAtMs: 60,
    });
  });

  test('events that meet at one instance are applied one after the other', async () => {
    await using opened = await database.open();
    const id = await someInstance(opened.db, await someWorkspace(opened.db));
    const events = ['agentReady', 'lost', 'release', 'confirmedGone', 'returned', 'accepted'] as const;
    const moves = await Promise.all(
      events.map((event) => opened.db.transaction((tx) => applyInstanceEvent(tx, id, event, 5))),
    );
    // Whatever the order, each move begins where another ended.
    const befores = moves.map((move) => move?.before).filter((state) => state !== 'requested');
    const afters = new Set(moves.map((move) => move?.after));
    for (const before of befores) expect(afters.has(before)).toBe(true);
    expect((await findInstance(opened.db, id))?.state).toBe('gone');
  });

  test('instances are paged newest first, with those gone only on request', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const [workspaceId, other] = [await someWorkspace(db), await someWorkspace(db)];
    const ids = [];
    for (const atMs of [1, 2, 2, 2, 3]) ids.push(await someInstance(db, workspaceId, { atMs }));
    await someInstance(db, other);
    await applyInstanceEvent(db, must(ids[4], 'five'), 'refused', 9);
    const seen: string[] = [];
    for (;;) {
      const page = await listInstances(db, { workspaceId, includeGone: true, before: seen.at(-1), limit: 2 });
      if (page.length === 0) break;
      seen.push(...page.map((row) => row.id));
    }
    expect(seen.toSorted()).toEqual(ids.toSorted());
    expect(seen[0]).toBe(ids[4]);
    expect(seen[4]).toBe(ids[0]);
    const held = await listInstances(db, { workspaceId, includeGone: false, limit: 10 });
    expect(held.map((row) => row.id)).not.toContain(ids[4]);
    expect(await listInstances(db, { includeGone: false, limit: 10 })).toHaveLength(5);
  });

  test('machines whose operation is over and that nobody uses are forgotten; all others are not', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const workspaceId = await someWorkspace(db);
    const operationId = await someOperation(db, workspaceId);
    const [winner, endpoint, loser, released] = await Promise.all(
      Array.from({ length: 4 }, () => someInstance(db, workspaceId, { operationId })),
    );
    await promotePrimary(db, workspaceId, must(winner, 'four'), 0);
    await setEndpoint(db, workspaceId, must(endpoint, 'four'));
    await applyInstanceEvent(db, must(released, 'four'), 'release', 5);
    expect(await listByOperation(db, operationId)).toHaveLength(4);
    expect(await listHeldByOperation(db, operationId)).toHaveLength(3);
    expect(await listForgotten(db)).toEqual([]);
    expect(await moverOf(db, workspaceId)).toBe(operationId);
    await finishOperation(db, operationId);
    expect(await moverOf(db, workspaceId)).toBeUndefined();
    expect((await listForgotten(db)).map((row) => row.id)).toEqual([loser]);
  });

  test('a ledger row closes at the second confirmation in a row and never reopens', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const instanceId = await someInstance(db, await someWorkspace(db));
    await openLedgerRow(db, { instanceId, provider: 'vast', label: 'dumont-1', priceMicroUsdPerHour: 9e12, atMs: 1 });
    await markRented(db, instanceId, 'ref-1', 2);
    await markRented(db, instanceId, 'ref-1', 3);
    await askRelease(db, instanceId, 'lost the race', 4);
    await askRelease(db, instanceId, 'again', 5);
    expect((await listReleasing(db)).map((row) => row.instanceId)).toEqual([instanceId]);
    expect(await confirmGone(db, instanceId, 6, 0)).toBe(false);
    await resetGone(db, instanceId);
    expect(await confirmGone(db, instanceId, 7, 0)).toBe(false);
    expect(await confirmGone(db, instanceId, 8, 0)).toBe(true);
    expect(await confirmGone(db, instanceId, 9, 0)).toBe(false);
    await markRented(db, instanceId, 'ref-2', 10);
    const row = {
      instanceId,
      provider: 'vast',
      label: 'dumont-1',
      providerRef: 'ref-1',
      priceMicroUsdPerHour: 9e12,
      requestedAtMs: 1,
      rentedAtMs: 2,
      releaseAskedAtMs: 4,
      goneConfirmations: 2,
      goneAtMs: 8,
      outcome: 'lost the race',
    };
    expect(await findLedger(db, instanceId)).toEqual(row);
    expect(await findLedgerByLabel(db, 'dumont-1')).toEqual(row);
    expect(await listReleasing(db)).toEqual([]);
  });

  test('the ledger is paged newest first, open rows alone unless asked', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const workspaceId = await someWorkspace(db);
    const ids = [];
    for (const atMs of [1, 2, 2, 3]) {
      const instanceId = await someInstance(db, workspaceId);
      ids.push(instanceId);
      await openLedgerRow(db, { instanceId, provider: 'vast', label: instanceId, priceMicroUsdPerHour: 1, atMs });
    }
    await closeRefused(db, must(ids[0], 'four'), 'no stock', 5);
    expect(await findLedger(db, must(ids[0], 'four'))).toMatchObject({ goneAtMs: 5, outcome: 'refused: no stock' });
    const seen: string[] = [];
    for (;;) {
      const page = await listLedger(db, { includeGone: true, before: seen.at(-1), limit: 1 });
      if (page.length === 0) break;
      seen.push(...page.map((row) => row.instanceId));
    }
    expect(seen.toSorted()).toEqual(ids.toSorted());
    expect(seen.at(-1)).toBe(ids[0]);
    expect(await listLedger(db, { includeGone: false, limit: 10 })).toHaveLength(3);
  });

  test('a setting is made once, whoever comes first', async () => {
    await using opened = await database.open();
    const values = await Promise.all(
      Array.from({ length: 8 }, (_, index) => ensureSetting(opened.db, 'jwt', () => `secret-${index}`)),
    );
    expect(new Set(values).size).toBe(1);
    expect(await ensureSetting(opened.db, 'jwt', () => 'another')).toBe(values[0]);
  });
});
