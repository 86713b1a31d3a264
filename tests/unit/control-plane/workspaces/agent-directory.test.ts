import type { Database } from '@dumont/control-plane/store/database.ts';
import { listEvents } from '@dumont/control-plane/store/events.ts';
import { applyInstanceEvent, findInstance, insertInstance } from '@dumont/control-plane/store/instances.ts';
import { insertOperation } from '@dumont/control-plane/store/operations.ts';
import { fencePrimary, promotePrimary } from '@dumont/control-plane/store/workspaces.ts';
import { setCredential } from '@dumont/control-plane/store/credentials.ts';
import { DatabaseAgentDirectory } from '@dumont/control-plane/workspaces/agent-directory.ts';
import { drawSecret, hashSecret } from '@dumont/control-plane/workspaces/credentials.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import type { Hello } from '@dumont/shared/protocol/hello.ts';
import { downstreamSchema } from '@dumont/shared/protocol/messages.ts';
import { CLOSE_CODES } from '@dumont/shared/protocol/version.ts';
import { expect, test } from 'vitest';
import { onEachDatabase } from '../../../world/databases.ts';
import { fileGrants } from '../../../world/file-grants.ts';
import { ManualClock } from '../../../world/manual-clock.ts';
import { someOffer, someSnapshot, someWorkspace } from '../../../world/rows.ts';

/** A workspace, an operation that moves it, and one machine rented for it. */
async function worldOn(db: Database) {
  const clock = new ManualClock();
  let changes = 0;
  const directory = new DatabaseAgentDirectory({
    db,
    clock,
    settings: { heartbeatIntervalMs: 200, storage: fileGrants('/objects') },
    storageName: 'file',
    onChange: () => (changes += 1),
  });
  const workspaceId = await someWorkspace(db);
  const [instanceId, operationId] = [newId('instance'), newId('operation')];
  await insertOperation(db, { id: operationId, kind: 'provision', workspaceId, state: 'searching', data: {}, atMs: 1 });
  const credential = drawSecret();
  await insertInstance(db, {
    id: instanceId,
    workspaceId,
    operationId,
    role: 'gpu',
    offer: someOffer(),
    atMs: 1,
  });
  await setCredential(db, instanceId, hashSecret(credential));
  const hello: Hello = {
    kind: 'hello',
    protocolVersion: 2,
    agentVersion: '0.1.0',
    instanceId,
    role: 'gpu',
    credential,
    bootId: 'boot-0001',
    lastEpoch: 0,
    hostname: 'gpu-host',
    cpuCount: 8,
    memoryBytes: 1,
  };
  return { db, directory, hello, instanceId, workspaceId, operationId, changes: () => changes };
}

onEachDatabase((database) => {
  test('a wrong credential and an unknown instance get the same answer', async () => {
    await using opened = await database.open();
    const { directory, hello, db } = await worldOn(opened.db);
    const wrong = await directory.admit({ ...hello, credential: 'x'.repeat(43) });
    const unknown = await directory.admit({ ...hello, instanceId: newId('instance') });
    const strip = (answer: typeof wrong) => JSON.stringify(answer).replaceAll(/in_\w{20}/g, 'in_');
    expect(wrong).toMatchObject({
      kind: 'refused',
      closeCode: CLOSE_CODES.unauthorized,
      refused: { code: 'UNAUTHORIZED', field: 'credential' },
    });
    expect(strip(unknown)).toBe(strip(wrong));
    expect((await findInstance(db, hello.instanceId))?.state).toBe('requested');
  });

  test('an agent of another role, or of a machine given back, is refused in words it can act on', async () => {
    await using opened = await database.open();
    const { directory, hello, db, instanceId } = await worldOn(opened.db);
    expect(await directory.admit({ ...hello, role: 'standby' })).toMatchObject({
      closeCode: CLOSE_CODES.protocol,
      refused: { code: 'PROTOCOL', field: 'role' },
    });
    for (const event of ['release', 'confirmedGone'] as const) {
      await applyInstanceEvent(db, instanceId, event, 2);
      expect(await directory.admit(hello)).toMatchObject({
        closeCode: CLOSE_CODES.released,
        refused: { code: 'CONFLICT' },
      });
    }
  });

  test('a welcome says what the machine is to its workspace: replacement, primary, fenced', async () => {
    await using opened = await database.open();
    const { directory, hello, db, instanceId, workspaceId, operationId } = await worldOn(opened.db);
    const standing = async () => {
      const answer = await directory.admit(hello);
      if (answer.kind !== 'admitted') throw new Error('refused');
      const welcome = { kind: 'welcome', sessionId: 's', nowMs: 1, assignment: answer.assignment };
      expect(downstreamSchema.parse(welcome)).toEqual(welcome);
      return answer.assignment;
    };
    expect(await standing()).toEqual({
      workspaceId,
      epoch: 0,
      standing: 'replacement',
      policy: { heartbeatIntervalMs: 200, snapshotIntervalMs: 30_000 },
      storage: { kind: 'file', path: '/objects', prefix: `workspaces/${workspaceId}/` },
      head: null,
      workload: null,
    });
    await promotePrimary(db, workspaceId, instanceId, 0);
    expect(await standing()).toMatchObject({ standing: 'primary' });
    await fencePrimary(db, workspaceId, instanceId);
    expect(await standing()).toMatchObject({ standing: 'fenced', epoch: 1 });
    await db.query('update instances set epoch = null');
    await db.query('update operations set finished_at = 1 where id = $1', [operationId]);
    expect(await standing()).toMatchObject({ standing: 'fenced' });
  });

  test('the first hello makes the machine ready and is told once; later ones are not news', async () => {
    await using opened = await database.open();
    const { directory, hello, db, instanceId } = await worldOn(opened.db);
    await directory.admit(hello);
    await directory.admit(hello);
    expect((await findInstance(db, instanceId))?.state).toBe('ready');
    const events = await listEvents(db, { after: 0, limit: 10 });
    expect(events.map(({ type, data }) => [type, data])).toEqual([
      ['instance.ready', { hostname: 'gpu-host', agentVersion: '0.1.0' }],
    ]);
  });

  test('a snapshot counts when its primary, its epoch and its parent are the present ones', async () => {
    await using opened = await database.open();
    const { directory, db, instanceId, workspaceId, changes } = await worldOn(opened.db);
    await promotePrimary(db, workspaceId, instanceId, 0);
    const commit = (snapshot: ReturnType<typeof someSnapshot>, epoch = 0) =>
      directory.commitSnapshot(instanceId, { kind: 'snapshot-commit', requestId: 'r', epoch, snapshot });
    const first = someSnapshot();
    expect(await commit(first)).toEqual({ kind: 'committed', seq: 1 });
    expect(changes()).toBe(1);
    expect(await commit(first)).toEqual({ kind: 'committed', seq: 1 });
    const { snapshotId, manifestKey, manifestHash } = first;
    expect(await commit(someSnapshot())).toEqual({
      kind: 'stale-parent',
      head: { snapshotId, manifestKey, manifestHash },
    });
    expect(await commit(someSnapshot(snapshotId), 1)).toEqual({ kind: 'stale-epoch', epoch: 0 });
    await fencePrimary(db, workspaceId, instanceId);
    expect(await commit(someSnapshot(snapshotId))).toEqual({ kind: 'stale-epoch', epoch: 1 });
    expect(await commit(someSnapshot(snapshotId), 1)).toEqual({ kind: 'stale-epoch', epoch: 1 });
    // What happened stays true: the agent may ask again after it was fenced.
    expect(await commit(first)).toEqual({ kind: 'committed', seq: 1 });
    const unknown = { kind: 'snapshot-commit', requestId: 'r', epoch: 0, snapshot: someSnapshot() } as const;
    await expect(directory.commitSnapshot(newId('instance'), unknown)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});
