import { insertInstance } from '@dumont/control-plane/store/instances.ts';
import { openDatabase } from '@dumont/control-plane/store/open-database.ts';
import type { Database } from '@dumont/control-plane/store/database.ts';
import { fencePrimary, promotePrimary } from '@dumont/control-plane/store/workspaces.ts';
import type { GrantHolder } from '@dumont/control-plane/storage/grant-issuer.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { workspacePrefix } from '@dumont/shared/storage/workspace-prefix.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { keysOf } from '../../../conformance/object-store-contract.ts';
import { fastClock } from '../../../world/fast-clock.ts';
import { NARROW_WAYS, startGrantingS3 } from '../../../world/granting-s3.ts';
import { someOffer, someWorkspace } from '../../../world/rows.ts';
import { steppingClock } from '../../../world/stepping-clock.ts';
import { makeTempFolder } from '../../../world/temp-folder.ts';

const REFUSED = { code: 'UNAUTHORIZED', retryable: false };
let db: Database;
let folder: Awaited<ReturnType<typeof makeTempFolder>>;

beforeAll(async () => {
  folder = await makeTempFolder();
  db = await openDatabase({ databaseUrl: undefined, dataDirectory: folder.path });
});

afterAll(async () => {
  await db[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
});

/** A workspace with one machine, in the database. */
async function someHolder(): Promise<GrantHolder> {
  const [workspaceId, instanceId] = [await someWorkspace(db), newId('instance')];
  const machine = { role: 'gpu', tokenHash: 'aa', offer: someOffer(), atMs: 1, operationId: null } as const;
  await insertInstance(db, { id: instanceId, workspaceId, ...machine });
  return { workspaceId, instanceId };
}

test.each(NARROW_WAYS)('a grant by %s at %s opens its own workspace and no other', async (way, profile) => {
  await using service = await startGrantingS3([way, profile], { db, clock: fastClock(50) });
  const [a, b] = [await someHolder(), await someHolder()];
  const [grantA, grantB] = [await service.issue(a), await service.issue(b)];
  const [own, victim] = [await service.open(grantA, a), await service.open(grantB, b)];
  await own.put('packs/one', Buffer.from('mine'));
  await victim.put('packs/two', Buffer.from('theirs'));
  expect(Buffer.from(await own.get('packs/one')).toString()).toBe('mine');
  expect(await keysOf(own, '')).toEqual(['packs/one']);
  expect(await own.stat('packs/absent')).toBeNull();

  // Whoever stole the grant may set any prefix.
  const thief = await service.open(grantA, a, `store/${workspacePrefix(b.workspaceId)}`);
  await expect(thief.get('packs/two')).rejects.toMatchObject(REFUSED);
  await expect(thief.stat('packs/two')).rejects.toMatchObject(REFUSED);
  await expect(thief.put('packs/two', Buffer.from('broken'))).rejects.toMatchObject(REFUSED);
  await expect(thief.put('packs/new', Buffer.from('left'))).rejects.toMatchObject(REFUSED);
  await expect(keysOf(thief, '')).rejects.toMatchObject(REFUSED);
  await expect(thief.delete('packs/two')).rejects.toMatchObject(REFUSED);
  const everything = await service.open(grantA, a, 'store/');
  await expect(keysOf(everything, '')).rejects.toMatchObject(REFUSED);
  await expect(keysOf(everything, 'workspaces/')).rejects.toMatchObject(REFUSED);
  expect(Buffer.from(await victim.get('packs/two')).toString()).toBe('theirs');
});

test.each(NARROW_WAYS)(
  'a grant by %s at %s destroys nothing, as far as the service has such a right',
  async (way, profile) => {
    await using service = await startGrantingS3([way, profile], { db, clock: fastClock(50) });
    const holder = await someHolder();
    const own = await service.open(await service.issue(holder), holder);
    await own.put('packs/one', Buffer.from('mine'));
    const outcome = await own.delete('packs/one').catch((error: unknown) => error);
    const left = [...service.simulator.objects('snapshots').values(), ...service.simulator.hidden('snapshots')];
    // R2 knows no right to write that is none to delete, which is why `auto` does not choose it.
    if (way === 'r2') expect([outcome, left]).toEqual([undefined, []]);
    else expect([outcome, left.map(String)]).toEqual([expect.objectContaining(REFUSED), ['mine']]);
  },
);

test.each(NARROW_WAYS.filter(([way]) => way !== 'presigned'))(
  'a grant by %s at %s ends in time',
  async (way, profile) => {
    const clock = steppingClock();
    await using service = await startGrantingS3([way, profile], { db, clock, ttlMs: 900_000 });
    const holder = await someHolder();
    const grant = await service.issue(holder);
    if (grant.kind !== 's3' || grant.expiresAtMs === undefined) throw new Error('such grants expire');
    expect(Math.abs(grant.expiresAtMs - clock.nowMs() - 900_000)).toBeLessThan(1_000);
    expect(grant).not.toMatchObject({ secretAccessKey: service.account.secretAccessKey });
    const { expiresAtMs: _, ...lasting } = grant;
    expect(service.simulator.keys.objection(lasting.accessKeyId, wish(grant.prefix), clock.nowMs())).toBeUndefined();
    clock.step(900_001);
    expect(service.simulator.keys.objection(lasting.accessKeyId, wish(grant.prefix), clock.nowMs())).toMatch(
      /^(?:ExpiredToken|InvalidAccessKeyId)$/,
    );
  },
);

const wish = (prefix: string) =>
  ({ action: 's3:GetObject', bucket: 'snapshots', key: `${prefix}packs/one`, listedPrefix: null }) as const;

test('a B2 key is deleted when its machine is fenced, and when it is over, and no other is', async () => {
  const clock = steppingClock();
  await using service = await startGrantingS3(['b2', 'b2'], { db, clock, ttlMs: 3_600_000 });
  const [fenced, serving] = [await someHolder(), await someHolder()];
  for (const { workspaceId, instanceId } of [fenced, serving]) await promotePrimary(db, workspaceId, instanceId, 0);
  await service.issue(fenced);
  const kept = await service.issue(serving);
  const { signal } = new AbortController();
  await service.issuer.revokeForgotten?.({ signal });
  expect(service.simulator.keys.issued.size).toBe(2);
  await fencePrimary(db, fenced.workspaceId, fenced.instanceId);
  // Yesterday's authorization is over as well: the issuer gets another.
  service.simulator.authorized.clear();
  await service.issuer.revokeForgotten?.({ signal });
  expect([...service.simulator.keys.issued.keys()]).toEqual([kept.kind === 's3' && kept.accessKeyId]);
  clock.step(3_600_001);
  await service.issuer.revokeForgotten?.({ signal });
  expect(service.simulator.keys.issued.size).toBe(0);
});

test('a key that cannot be deleted now is deleted later, and one that is gone counts as deleted', async () => {
  const clock = steppingClock();
  await using service = await startGrantingS3(['b2', 'b2'], { db, clock, ttlMs: 1_000 });
  const holder = await someHolder();
  await service.issue(holder);
  const other = await service.issue(holder);
  clock.step(2_000);
  const { signal } = new AbortController();
  service.simulator.keyApisAreDown = true;
  await expect(service.issuer.revokeForgotten?.({ signal })).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    retryable: true,
  });
  service.simulator.keyApisAreDown = false;
  if (other.kind === 's3') service.simulator.keys.issued.delete(other.accessKeyId);
  await service.issuer.revokeForgotten?.({ signal });
  expect(service.simulator.keys.issued.size).toBe(0);
  expect(await db.query('select 1 from storage_keys where instance_id = $1', [holder.instanceId])).toEqual([]);
});
