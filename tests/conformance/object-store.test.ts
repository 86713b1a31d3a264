import { mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { StorageGrant } from '@dumont/shared/protocol/storage-grant.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { FileStore } from '@dumont/agent/storage/file-store.ts';
import type { ObjectStore } from '@dumont/agent/storage/object-store.ts';
import { openStore, type OpenStore } from '@dumont/agent/storage/open-store.ts';
import { startS3Simulator, type S3Simulator, type S3SimulatorOptions } from '../simulators/s3/s3-simulator.ts';
import { makeTempFolder } from '../world/temp-folder.ts';

const CREDENTIALS = { accessKeyId: 'key-id', secretAccessKey: 'a secret' };
const retrying = { clock: systemClock, random: seededRandom(1) };

function s3Grant(simulator: S3Simulator, changes: Partial<Extract<StorageGrant, { kind: 's3' }>> = {}): StorageGrant {
  const base = {
    kind: 's3',
    region: 'eu-central-003',
    bucket: 'snapshots',
    prefix: 'team-a/',
  } as const;
  return { ...base, ...CREDENTIALS, endpoint: simulator.endpoint, forcePathStyle: true, ...changes };
}

interface Opened extends AsyncDisposable {
  readonly store: ObjectStore;
}

async function openFolder(): Promise<Opened> {
  const folder = await makeTempFolder();
  const store = await openStore({ kind: 'file', path: join(folder.path, 'store'), prefix: 'p/' }, retrying);
  return { store, [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose]() };
}

async function openS3(
  options: Partial<S3SimulatorOptions> = {},
): Promise<Opened & { readonly simulator: S3Simulator; readonly store: OpenStore }> {
  const simulator = await startS3Simulator({ ...CREDENTIALS, buckets: ['snapshots'], pageSize: 3, ...options });
  const store = await openStore(s3Grant(simulator), retrying);
  return {
    simulator,
    store,
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]();
      await simulator[Symbol.asyncDispose]();
    },
  };
}

async function keys(store: ObjectStore, prefix: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { key } of store.list(prefix)) found.push(key);
  return found;
}

const KINDS = [
  ['a folder', openFolder],
  ['S3', openS3],
  ['S3 without conditional writes', () => openS3({ conditionalPut: 'unsupported' })],
] as const;

describe.each(KINDS)('an object store on %s', (_, open) => {
  test('gives back what was put, whole and by range', async () => {
    await using opened = await open();
    const { store } = opened;
    const bytes = Buffer.from(Array.from({ length: 3_000_000 }, (_, index) => (index * 7) & 255));
    expect(await store.put('packs/one', bytes)).toBe('stored');
    expect(Buffer.compare(await store.get('packs/one'), bytes)).toBe(0);
    const range = await store.get('packs/one', { range: { offset: 1_000_001, length: 17 } });
    expect(Buffer.compare(range, bytes.subarray(1_000_001, 1_000_018))).toBe(0);
    expect(await store.stat('packs/one')).toEqual({ sizeBytes: bytes.length });
  });

  test('holds empty objects', async () => {
    await using opened = await open();
    await opened.store.put('empty', new Uint8Array());
    expect(await opened.store.get('empty')).toHaveLength(0);
    expect(await opened.store.stat('empty')).toEqual({ sizeBytes: 0 });
  });

  test('says NOT_FOUND for an absent object and CORRUPT for a range beyond the end', async () => {
    await using opened = await open();
    const { store } = opened;
    await expect(store.get('absent')).rejects.toMatchObject({ code: 'NOT_FOUND', retryable: false });
    expect(await store.stat('absent')).toBeNull();
    await store.put('short', Buffer.from('abc'));
    await expect(store.get('short', { range: { offset: 1, length: 3 } })).rejects.toMatchObject({ code: 'CORRUPT' });
    await expect(store.get('short', { range: { offset: 9, length: 3 } })).rejects.toMatchObject({ code: 'CORRUPT' });
  });

  test('leaves an existing object alone when asked to', async () => {
    await using opened = await open();
    const { store } = opened;
    expect(await store.put('a/b', Buffer.from('first'), { ifAbsent: true })).toBe('stored');
    expect(await store.put('a/b', Buffer.from('second'), { ifAbsent: true })).toBe('exists');
    expect(Buffer.from(await store.get('a/b')).toString()).toBe('first');
    expect(await store.put('a/b', Buffer.from('third'))).toBe('stored');
    expect(Buffer.from(await store.get('a/b')).toString()).toBe('third');
  });

  test('lists by prefix in ascending order of whole keys, over many pages', async () => {
    await using opened = await open();
    const { store } = opened;
    const all = ['a-b', 'a.b', 'a/b', 'a/c/d', 'a0', 'manifests/1', 'manifests/10', 'manifests/2', 'z'];
    for (const key of all.toReversed()) await store.put(key, Buffer.from(key));
    expect(await keys(store, '')).toEqual(all);
    expect(await keys(store, 'a/')).toEqual(['a/b', 'a/c/d']);
    expect(await keys(store, 'manifests/1')).toEqual(['manifests/1', 'manifests/10']);
    expect(await keys(store, 'nothing/')).toEqual([]);
  });

  test('deletes, and deleting again does nothing', async () => {
    await using opened = await open();
    await opened.store.put('gone', Buffer.from('x'));
    await opened.store.delete('gone');
    await opened.store.delete('gone');
    expect(await opened.store.stat('gone')).toBeNull();
  });

  test.each(['', '/', '/abs', 'a//b', '../up', 'a/../b', 'a/.', '.hidden', 'a b', 'ä', 'a\0b', 'x'.repeat(1_025)])(
    'refuses the key %j',
    async (key) => {
      await using opened = await open();
      await expect(opened.store.put(key, Buffer.from('x'))).rejects.toMatchObject({ code: 'USAGE' });
      await expect(opened.store.get(key)).rejects.toMatchObject({ code: 'USAGE' });
    },
  );

  test('stops when its signal fires', async () => {
    await using opened = await open();
    const signal = AbortSignal.abort();
    await expect(opened.store.put('k', Buffer.from('x'), { signal })).rejects.toMatchObject({ code: 'ABORTED' });
  });
});

test.each([['a folder', openFolder] as const, ['S3', openS3] as const])(
  'of many simultaneous conditional writers on %s exactly one wins',
  async (_, open) => {
    await using opened = await open();
    const writers = Array.from({ length: 8 }, (_, n) =>
      opened.store.put('head', Buffer.from(`writer ${n}`), { ifAbsent: true }),
    );
    const outcomes = await Promise.all(writers);
    expect(outcomes.filter((outcome) => outcome === 'stored')).toHaveLength(1);
    const winner = outcomes.indexOf('stored');
    expect(Buffer.from(await opened.store.get('head')).toString()).toBe(`writer ${winner}`);
  },
);

test('a folder store leaves no temporary files and does not list those of a crashed one', async () => {
  await using folder = await makeTempFolder();
  const store = new FileStore(folder.path);
  await store.put('packs/a', Buffer.from('x'));
  await store.put('packs/a', Buffer.from('y'), { ifAbsent: true });
  expect(await readdir(join(folder.path, 'packs'))).toEqual(['a']);
  await writeFile(join(folder.path, 'packs', '.tmp-crashed'), 'half');
  expect(await keys(store, 'packs/')).toEqual(['packs/a']);
});

describe('S3 under faults', () => {
  test.each(['slow-down', 'internal', 'reset'] as const)('a put survives %s', async (kind) => {
    await using opened = await openS3();
    opened.simulator.faults.add({ kind, method: 'PUT', times: 2 });
    expect(await opened.store.put('k', Buffer.from('x'))).toBe('stored');
    expect(opened.simulator.requests.filter((one) => one.startsWith('PUT'))).toHaveLength(3);
  });

  test.each(['slow-down', 'internal', 'reset', 'truncate'] as const)('a get survives %s', async (kind) => {
    await using opened = await openS3();
    const bytes = Buffer.alloc(300_000, 'some bytes');
    await opened.store.put('k', bytes);
    opened.simulator.faults.add({ kind, method: 'GET', times: 2 });
    expect(Buffer.compare(await opened.store.get('k'), bytes)).toBe(0);
    opened.simulator.faults.add({ kind, method: 'GET', times: 1 });
    expect(await opened.store.get('k', { range: { offset: 5, length: 100_000 } })).toHaveLength(100_000);
  });

  test('a put whose answer is lost stores the object once and reports that it exists', async () => {
    await using opened = await openS3();
    opened.simulator.faults.add({ kind: 'lost-answer', method: 'PUT' });
    expect(await opened.store.put('k', Buffer.from('x'), { ifAbsent: true })).toBe('exists');
    expect(Buffer.from(await opened.store.get('k')).toString()).toBe('x');
  });

  test('a listing interrupted between pages gives every key once', async () => {
    await using opened = await openS3();
    const all = Array.from({ length: 8 }, (_, n) => `k${n}`);
    for (const key of all) await opened.store.put(key, Buffer.from('x'));
    const found: string[] = [];
    for await (const { key } of opened.store.list('')) {
      found.push(key);
      if (found.length === 2) opened.simulator.faults.add({ kind: 'reset', method: 'GET' });
    }
    expect(found).toEqual(all);
  });

  test('gives up on an outage with a retryable error after a bounded number of calls', async () => {
    await using opened = await openS3();
    opened.simulator.faults.add({ kind: 'slow-down', times: 1_000 });
    const quick = { clock: { ...systemClock, sleep: () => Promise.resolve() }, random: seededRandom(1) };
    await using store = await openStore(s3Grant(opened.simulator), quick);
    await expect(store.get('k')).rejects.toMatchObject({ code: 'UNAVAILABLE', retryable: true });
    expect(opened.simulator.requests).toHaveLength(6);
  });

  test('an abort ends the waiting between two attempts', async () => {
    await using opened = await openS3();
    opened.simulator.faults.add({ kind: 'slow-down', times: 1_000 });
    const stop = new AbortController();
    const clock = {
      ...systemClock,
      sleep: (ms: number, signal?: AbortSignal) => {
        stop.abort();
        return systemClock.sleep(ms, signal);
      },
    };
    await using store = await openStore(s3Grant(opened.simulator), { clock, random: seededRandom(1) });
    await expect(store.get('k', { signal: stop.signal })).rejects.toMatchObject({ code: 'ABORTED' });
    expect(opened.simulator.requests).toHaveLength(1);
  });

  test.each([
    ['a wrong secret', { secretAccessKey: 'another' }, 'UNAUTHORIZED'],
    ['an unknown key', { accessKeyId: 'nobody' }, 'UNAUTHORIZED'],
    ['a missing bucket', { bucket: 'elsewhere' }, 'NOT_FOUND'],
  ] as const)('%s is refused at once with a clear code', async (_, changes, code) => {
    await using opened = await openS3();
    await using store = await openStore(s3Grant(opened.simulator, changes), retrying);
    await expect(store.put('k', Buffer.from('x'))).rejects.toMatchObject({ code, retryable: false });
    expect(opened.simulator.requests).toHaveLength(1);
  });
});

test('a mounted folder that is not there fails every call and is never made, and serves again when it is back', async () => {
  await using folder = await makeTempFolder();
  const [real, mount] = [join(folder.path, 'real'), join(folder.path, 'mount')];
  await mkdir(real);
  await symlink(real, mount);
  const store = await openStore({ kind: 'file', path: real, prefix: '' }, { ...retrying, fileMount: mount });
  await store.put('packs/one', Buffer.from('1'));
  await rm(mount);
  const unavailable = { code: 'UNAVAILABLE', retryable: true };
  await expect(store.put('packs/two', Buffer.from('2'))).rejects.toMatchObject(unavailable);
  await expect(store.get('packs/one')).rejects.toMatchObject(unavailable);
  await expect(store.stat('packs/one')).rejects.toMatchObject(unavailable);
  await expect(keys(store, '')).rejects.toMatchObject(unavailable);
  await expect(store.delete('packs/one')).rejects.toMatchObject(unavailable);
  expect(await readdir(folder.path)).toEqual(['real']);
  await symlink(real, mount);
  await store.put('top', Buffer.from('2'));
  expect(await keys(store, '')).toEqual(['packs/one', 'top']);
});
