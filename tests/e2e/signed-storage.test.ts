import { openStore } from '@dumont/agent/storage/open-store.ts';
import { controlSigner } from '@dumont/agent/storage/control-signer.ts';
import { storageSigner } from '@dumont/control-plane/http/routes/agent-storage.ts';
import { fencePrimary, promotePrimary } from '@dumont/control-plane/store/workspaces.ts';
import { insertInstance } from '@dumont/control-plane/store/instances.ts';
import { setCredential } from '@dumont/control-plane/store/credentials.ts';
import { hashSecret } from '@dumont/control-plane/workspaces/credentials.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { workspacePrefix } from '@dumont/shared/storage/workspace-prefix.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { expect, test } from 'vitest';
import { keysOf } from '../conformance/object-store-contract.ts';
import { startApiWorld } from '../unit/control-plane/http/api-world.ts';
import { someOffer, someWorkspace } from '../world/rows.ts';
import { openSimulatedS3 } from '../world/simulated-s3.ts';

const CREDENTIAL = 'a-credential-of-the-tests-0001';

/** A control plane's API that signs for one bucket, and a primary with its credential. */
async function setUp() {
  const stack = new AsyncDisposableStack();
  const s3 = stack.use(await openSimulatedS3({}, { prefix: '' }));
  const world = stack.use(await startApiWorld());
  const { db } = world;
  const plan = { way: 'presigned' } as const;
  const sign = storageSigner({ db, clock: systemClock, storage: s3.grant, plan });
  Object.assign(world.services, { signRequests: sign });
  const [workspaceId, instanceId] = [await someWorkspace(db), newId('instance')];
  const machine = {
    role: 'gpu',
    offer: someOffer(),
    atMs: 1,
    operationId: null,
  } as const;
  await insertInstance(db, { id: instanceId, workspaceId, ...machine });
  await setCredential(db, instanceId, hashSecret(CREDENTIAL));
  await promotePrimary(db, workspaceId, instanceId, 0);
  const open = (authorization: string, prefix = workspacePrefix(workspaceId)) =>
    openStore(
      { kind: 'presigned', profile: 'minio', signPath: '/api/v1/agent/storage/sign', prefix },
      {
        clock: systemClock,
        random: seededRandom(1),
        sign: controlSigner({ controlUrl: world.url, authorization: () => authorization }),
      },
    );
  return { stack, s3, world, db, workspaceId, instanceId, open };
}

test('an agent without any key stores, lists and reads through requests that the control plane signs', async () => {
  const { stack, s3, workspaceId, instanceId, open } = await setUp();
  await using _ = stack;
  await using store = await open(`Bearer ${instanceId}.${CREDENTIAL}`);
  const names = Array.from({ length: 9 }, (_, count) => `packs/${count}`);
  await Promise.all(names.map((name) => store.put(name, Buffer.from(name))));
  expect(await keysOf(store, 'packs/')).toEqual(names);
  expect(Buffer.from(await store.get('packs/3', { range: { offset: 6, length: 1 } })).toString()).toBe('3');
  expect(
    [...s3.simulator.objects('snapshots').keys()].every((key) => key.startsWith(workspacePrefix(workspaceId))),
  ).toBe(true);
});

test('a stranger, an operator, another workspace and a fenced machine are refused', async () => {
  const { stack, world, db, workspaceId, instanceId, open } = await setUp();
  await using _ = stack;
  const refused = { code: 'UNAUTHORIZED', retryable: false };
  const own = `Bearer ${instanceId}.${CREDENTIAL}`;
  const wrong = [
    `Bearer ${instanceId}.${'x'.repeat(30)}`,
    `Bearer ${newId('instance')}.${CREDENTIAL}`,
    `Bearer ${world.token}`,
  ];
  for (const authorization of wrong) {
    await using store = await open(authorization);
    await expect(store.get('packs/one')).rejects.toMatchObject(refused);
  }
  for (const prefix of [workspacePrefix(newId('workspace')), 'workspaces/', '']) {
    await using store = await open(own, prefix);
    await expect(store.put('packs/one', Buffer.from('x'))).rejects.toMatchObject(refused);
  }
  await using store = await open(own);
  await store.put('packs/one', Buffer.from('x'));
  await fencePrimary(db, workspaceId, instanceId);
  await expect(store.put('packs/two', Buffer.from('x'))).rejects.toMatchObject(refused);
});

test.each([
  ['a path that a server could fold', { method: 'GET', key: '@/../other/packs/one' }],
  ['a delete', { method: 'DELETE', key: '@/packs/one' }],
  ['a listing of everything', { method: 'LIST', prefix: 'workspaces/' }],
])('%s is not signed', async (_name, request) => {
  const { stack, world, workspaceId, instanceId } = await setUp();
  await using _ = stack;
  const text = JSON.stringify({ requests: [request] }).replace('@', `workspaces/${workspaceId}`);
  const answer = await fetch(`${world.url}/api/v1/agent/storage/sign`, {
    method: 'POST',
    headers: { authorization: `Bearer ${instanceId}.${CREDENTIAL}`, 'content-type': 'application/json' },
    body: text,
  });
  expect([400, 401]).toContain(answer.status);
});
