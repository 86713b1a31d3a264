import { expect, test } from 'vitest';
import {
  manifestKey,
  packKey,
  parseRevocationKey,
  planKey,
  revocationKey,
  sessionKey,
} from '@dumont/shared/format/layout.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { putPlan } from '@dumont/agent/catalogue/plans.ts';
import { putRevocation } from '@dumont/agent/catalogue/revocations.ts';
import { WriterSession } from '@dumont/agent/catalogue/writer-session.ts';
import { FileStore } from '@dumont/agent/storage/file-store.ts';
import type { ObjectStore } from '@dumont/agent/storage/object-store.ts';
import { makeTempFolder } from '../../../world/temp-folder.ts';

const BYTES = new Uint8Array([1]);
const PACKS = ['a', 'b'].map((digit) => digit.repeat(32));
const PRUNE_ID = 'c'.repeat(32);

async function workplace(wrap: (store: ObjectStore) => ObjectStore = (store) => store) {
  const folder = await makeTempFolder();
  const store = wrap(new FileStore(folder.path));
  const workspaceId = newId('workspace');
  const snapshotId = newId('snapshot');
  const session = new WriterSession({ store, snapshotId, workspaceId, writerId: 'w', tool: 't/1', clock: systemClock });
  const parentName = { workspaceId, epoch: 0, seq: 1, snapshotId: newId('snapshot'), writerId: 'w' };
  const isThere = async (key: string) => (await store.stat(key)) !== null;
  return {
    store,
    session,
    snapshotId,
    parentName,
    isThere,
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

/** An agent's store: it may not delete. */
function withoutDelete(store: ObjectStore): ObjectStore {
  return {
    put: (key, bytes, options) => store.put(key, bytes, options),
    get: (key, options) => store.get(key, options),
    stat: (key, options) => store.stat(key, options),
    list: (prefix, options) => store.list(prefix, options),
    delete: async (key) => {
      throw new DumontError('UNAUTHORIZED', `may not delete ${key}`);
    },
  };
}

test('the session is stored before the first pack, and not at all when there is none', async () => {
  await using place = await workplace();
  const { store, session, snapshotId, isThere } = place;
  const guarded = session.guard({
    ...withoutDelete(store),
    put: async (key, bytes, options) => {
      expect(await isThere(sessionKey(snapshotId))).toBe(true);
      return store.put(key, bytes, options);
    },
  });
  expect(await isThere(sessionKey(snapshotId))).toBe(false);
  await guarded.put(packKey(PACKS[0] ?? ''), BYTES);
  expect(await isThere(packKey(PACKS[0] ?? ''))).toBe(true);
  await session[Symbol.asyncDispose]();
  expect(await isThere(sessionKey(snapshotId))).toBe(false);
});

test('packs of a plan are condemned, those of a plan that is gone are not', async () => {
  await using place = await workplace();
  const { store, session } = place;
  for (const packId of PACKS) await store.put(packKey(packId), BYTES);
  await putPlan(store, { pruneId: PRUNE_ID, packIds: [PACKS[0] ?? ''] });
  expect(await session.check({ packIds: PACKS, vouched: [], manifestKeys: [] })).toEqual({
    kind: 'condemned',
    packIds: new Set([PACKS[0]]),
  });
  expect(await session.listSoundPacks()).toEqual(new Set([PACKS[1]]));
  await store.delete(planKey(PRUNE_ID));
  const later = new WriterSession({
    store,
    snapshotId: newId('snapshot'),
    workspaceId: place.parentName.workspaceId,
    writerId: 'w',
    tool: 't/1',
    clock: systemClock,
  });
  expect(await later.check({ packIds: PACKS, vouched: [], manifestKeys: [] })).toEqual({ kind: 'sound' });
});

test('a pack that nobody vouches for is looked for, and condemned when it is gone', async () => {
  await using place = await workplace();
  const { store, session } = place;
  await store.put(packKey(PACKS[1] ?? ''), BYTES);
  const check = (vouched: readonly ReadonlySet<string>[]) =>
    session.check({ packIds: PACKS, vouched, manifestKeys: [] });
  expect(await check([])).toEqual({ kind: 'condemned', packIds: new Set([PACKS[0]]) });
  expect(await check([new Set(PACKS)])).toEqual({ kind: 'sound' });
});

test('a parent that was forgotten or is void vouches for nothing', async () => {
  await using place = await workplace();
  const { store, session, parentName } = place;
  const key = manifestKey(parentName);
  const check = () => session.check({ packIds: PACKS, vouched: [new Set(PACKS)], manifestKeys: [key] });
  expect(await check()).toEqual({ kind: 'forgotten', manifestKeys: [key] });
  await store.put(key, BYTES);
  expect(await check()).toEqual({ kind: 'sound' });
  await putRevocation(store, { snapshotId: parentName.snapshotId, mark: PRUNE_ID });
  expect(await check()).toEqual({ kind: 'sound' });
  await putRevocation(store, { snapshotId: parentName.snapshotId, mark: 'void' });
  expect(await check()).toEqual({ kind: 'forgotten', manifestKeys: [key] });
});

test.each(['void', PRUNE_ID])(
  'a session with the mark %s does not commit, and says that it may be tried again',
  async (mark) => {
    await using place = await workplace();
    const { store, session, snapshotId } = place;
    await putRevocation(store, { snapshotId, mark });
    await expect(session.commit(async () => 'put')).rejects.toMatchObject({ code: 'ABORTED', retryable: true });
  },
);

test('a commit ends the session; a manifest that may have been stored keeps it', async () => {
  await using good = await workplace();
  expect(await good.session.commit(async () => 'put')).toBe('put');
  expect(await good.isThere(sessionKey(good.snapshotId))).toBe(false);
  await using bad = await workplace();
  const lost = new DumontError('UNAVAILABLE', 'no answer');
  await expect(bad.session.commit(() => Promise.reject(lost))).rejects.toBe(lost);
  await bad.session[Symbol.asyncDispose]();
  expect(await bad.isThere(sessionKey(bad.snapshotId))).toBe(true);
});

test('a writer that may not delete says otherwise that it has given up', async () => {
  await using place = await workplace(withoutDelete);
  const { session, snapshotId, isThere } = place;
  await session.open();
  await session[Symbol.asyncDispose]();
  expect(await isThere(sessionKey(snapshotId))).toBe(true);
  expect(await isThere(revocationKey(snapshotId, 'withdrawn'))).toBe(true);
});

test('keys of marks are read back and nothing else is one', () => {
  const snapshotId = newId('snapshot');
  for (const mark of ['void', 'withdrawn', PRUNE_ID]) {
    expect(parseRevocationKey(revocationKey(snapshotId, mark))).toEqual({ snapshotId, mark });
  }
  for (const key of [
    `revoked/${snapshotId}`,
    `revoked/${snapshotId}/x`,
    `revoked/${snapshotId}/void/x`,
    'revoked/sn_1/void',
  ]) {
    expect(parseRevocationKey(key)).toBeNull();
  }
});
