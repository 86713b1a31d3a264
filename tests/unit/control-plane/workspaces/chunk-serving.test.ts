import { assignmentFor } from '@dumont/control-plane/workspaces/assignments.ts';
import { insertOperation } from '@dumont/control-plane/store/operations.ts';
import { applyInstanceEvent } from '@dumont/control-plane/store/instances.ts';
import { nameStandby, promoteStandby } from '@dumont/control-plane/store/standbys.ts';
import { promotePrimary } from '@dumont/control-plane/store/workspaces.ts';
import { type InstanceId, newId } from '@dumont/shared/model/ids.ts';
import { expect, test } from 'vitest';
import { onEachDatabase } from '../../../world/databases.ts';
import { fileGrants } from '../../../world/file-grants.ts';
import { someInstance, someWorkspace } from '../../../world/rows.ts';

const locate = () => Promise.resolve({ host: '10.0.0.9', port: 4_000 });
const settings = {
  heartbeatIntervalMs: 200,
  storage: fileGrants('/none'),
  standbySync: { secret: 'of this installation', locate },
};

onEachDatabase((database) => {
  test('while a workspace is moved its standby serves chunks to the replacement, also once it is primary, and to nobody after', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const workspaceId = await someWorkspace(db);
    const chunksOf = async (id: InstanceId) => (await assignmentFor(db, id, settings))?.chunks;
    const primary = await someInstance(db, workspaceId);
    const standby = await someInstance(db, workspaceId);
    await db.query("update instances set role = 'standby' where id = $1", [standby]);
    await applyInstanceEvent(db, standby, 'agentReady', 1_000);
    await promotePrimary(db, workspaceId, primary, 0);
    await nameStandby(db, workspaceId, standby);
    expect(await chunksOf(standby)).toBeUndefined();

    const move = async () => {
      const operationId = newId('operation');
      await insertOperation(db, {
        id: operationId,
        kind: 'failover',
        workspaceId,
        state: 'searching',
        data: {},
        atMs: 1,
      });
      return { operationId, replacement: await someInstance(db, workspaceId, { operationId }) };
    };
    const { operationId, replacement } = await move();
    const served = await chunksOf(standby);
    expect(served).toMatchObject({ role: 'serve', port: 8_767 });
    const fetched = { role: 'fetch', url: 'wss://10.0.0.9:4000', token: served?.token };
    expect(await chunksOf(replacement)).toEqual(fetched);
    expect(await chunksOf(primary)).toBeUndefined();

    await promoteStandby(db, workspaceId, { primaryId: primary, standbyId: standby, headSnapshotId: null });
    expect(await chunksOf(standby)).toEqual(served);
    expect(await chunksOf(replacement)).toEqual(fetched);

    await db.query("update operations set state = 'failed', finished_at = 2 where id = $1", [operationId]);
    expect(await chunksOf(standby)).toBeUndefined();
    expect(await chunksOf(replacement)).toBeUndefined();
    // A machine that was left behind by one move must not read during the next.
    const next = await move();
    expect(await chunksOf(replacement)).toBeUndefined();
    expect((await chunksOf(next.replacement))?.token).not.toBe(served?.token);
  });
});
