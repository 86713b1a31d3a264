import type { Database } from '@dumont/control-plane/store/database.ts';
import { applyInstanceEvent, setProviderRef } from '@dumont/control-plane/store/instances.ts';
import {
  closeRefused,
  ledgerTotals,
  markRented,
  openLedgerRow,
  askRelease,
} from '@dumont/control-plane/store/ledger.ts';
import {
  listHostRecords,
  noteBootFailure,
  noteBootTimes,
  openBoot,
  pardonHost,
  pinHostKey,
} from '@dumont/control-plane/store/machine-boots.ts';
import type { InstanceId } from '@dumont/shared/model/ids.ts';
import { expect, test } from 'vitest';
import { onEachDatabase } from '../world/databases.ts';
import { someInstance, someWorkspace } from '../world/rows.ts';

const HOST = { provider: 'local', machineId: 'machine-1' };

async function order(db: Database, atMs: number, host = HOST): Promise<InstanceId> {
  const instanceId = await someInstance(db, await someWorkspace(db), { atMs });
  await openBoot(db, { ...host, instanceId, atMs });
  await setProviderRef(db, instanceId, `ref-${instanceId}`);
  return instanceId;
}

async function recordOf(db: Database, machineId = HOST.machineId) {
  return (await listHostRecords(db, { sinceMs: 0, machineId, limit: 10 }))[0];
}

onEachDatabase((database) => {
  test("a host's record adds up what its machines came to", async () => {
    await using opened = await database.open();
    const { db } = opened;
    const good = await order(db, 1_000);
    await noteBootTimes(db, good, { runningMs: 700 });
    await noteBootTimes(db, good, { runningMs: 9_000, sshMs: 100, installMs: 50 });
    await applyInstanceEvent(db, good, 'agentReady', 2_000);
    await applyInstanceEvent(db, good, 'lost', 5_000);
    const bad = await order(db, 3_000);
    await noteBootFailure(db, bad, { reason: 'no hello', atMs: 4_000 });
    await noteBootFailure(db, bad, { reason: 'later', atMs: 4_500 });
    await order(db, 3_500);
    await order(db, 6_000, { ...HOST, machineId: 'machine-2' });
    expect(await recordOf(db)).toEqual({
      ...HOST,
      gpuName: 'RTX 4090',
      rented: 3,
      ready: 1,
      failed: 1,
      interrupted: 1,
      runningMs: 700,
      sshMs: 100,
      installMs: 50,
      helloMs: 1_000,
      lastFailedAtMs: 4_000,
      lastFailure: 'no hello',
      lastSeenAtMs: 5_000,
    });
    const hosts = await listHostRecords(db, { sinceMs: 0, limit: 10 });
    expect(hosts.map(({ machineId }) => machineId)).toEqual(['machine-2', 'machine-1']);
    expect(await listHostRecords(db, { sinceMs: 7_000, limit: 10 })).toEqual([]);
  });

  test('a pardon strikes out the past of one host, not what comes after', async () => {
    await using opened = await database.open();
    const { db } = opened;
    await noteBootFailure(db, await order(db, 1_000), { reason: 'no hello', atMs: 2_000 });
    expect(await pardonHost(db, { machineId: 'machine-9' }, 3_000)).toBe(0);
    expect(await pardonHost(db, { machineId: HOST.machineId, provider: 'another' }, 3_000)).toBe(0);
    expect(await pardonHost(db, { machineId: HOST.machineId }, 3_000)).toBe(1);
    expect(await recordOf(db)).toBeUndefined();
    await order(db, 4_000);
    expect(await recordOf(db)).toMatchObject({ rented: 1, failed: 0 });
  });

  test('the first host key that a machine shows stays pinned', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const instanceId = await order(db, 1_000);
    expect(await pinHostKey(db, instanceId, 'first')).toBe('first');
    expect(await pinHostKey(db, instanceId, 'second')).toBe('first');
    expect(await pinHostKey(db, 'in_nobody' as InstanceId, 'first')).toBeUndefined();
  });

  test('orphan dollars are what machines cost after they were to be destroyed', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const rent = async (rentedAtMs: number | null) => {
      const instanceId = await order(db, 0);
      const row = { instanceId, provider: 'local', label: instanceId, priceMicroUsdPerHour: 3_600_000, atMs: 0 };
      await openLedgerRow(db, row);
      if (rentedAtMs !== null) await markRented(db, instanceId, 'ref', rentedAtMs);
      return instanceId;
    };
    await closeRefused(db, await rent(null), 'no', 1_000);
    await rent(0);
    await askRelease(db, await rent(0), 'lost the race', 40_000);
    // A thousand micro-dollars each second.
    expect(await ledgerTotals(db, { nowMs: 50_000, orphanAfterMs: 60_000 })).toEqual({
      costMicroUsd: 100_000,
      orphanCount: 0,
      orphanMicroUsd: 10_000,
    });
    const later = await ledgerTotals(db, { nowMs: 100_000, orphanAfterMs: 60_000 });
    expect(later).toEqual({ costMicroUsd: 200_000, orphanCount: 1, orphanMicroUsd: 60_000 });
  });
});
