import { join } from 'node:path';
import { expect, test } from 'vitest';
import { FileStore } from '@dumont/agent/storage/file-store.ts';
import { PacedStore } from '@dumont/agent/storage/paced-store.ts';
import { fastClock } from '../../../world/fast-clock.ts';
import { makeTempFolder } from '../../../world/temp-folder.ts';

const MIB = 1024 * 1024;

test('uploads and downloads keep to their own rates, and the bytes arrive whole', async () => {
  await using folder = await makeTempFolder();
  const clock = fastClock(20);
  const inner = new FileStore(join(folder.path, 'store'));
  const limits = { uploadBytesPerSecond: MIB, downloadBytesPerSecond: 2 * MIB };
  const store = new PacedStore(inner, limits, clock);
  const bytes = Buffer.from(Array.from({ length: 4 * MIB }, (_, n) => (n * 31) & 255));

  let begunMs = clock.monotonicMs();
  await Promise.all(['a', 'b'].map((key) => store.put(key, bytes.subarray(0, 2 * MIB))));
  expect(clock.monotonicMs() - begunMs).toBeGreaterThan(3_700);

  await inner.put('c', bytes);
  begunMs = clock.monotonicMs();
  expect(Buffer.compare(await store.get('c'), bytes)).toBe(0);
  expect(clock.monotonicMs() - begunMs).toBeGreaterThan(1_700);
  const range = { offset: 1_000, length: 3 * MIB };
  expect(Buffer.compare(await store.get('c', { range }), bytes.subarray(1_000, 1_000 + 3 * MIB))).toBe(0);
});

test('what is not capped passes as it is', async () => {
  await using folder = await makeTempFolder();
  const store = new PacedStore(new FileStore(folder.path), {}, fastClock(1));
  await store.put('k', Buffer.from('x'));
  expect(Buffer.from(await store.get('k')).toString()).toBe('x');
  await expect(store.get('absent')).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

test('a capped download of what is not there says so', async () => {
  await using folder = await makeTempFolder();
  const store = new PacedStore(new FileStore(folder.path), { downloadBytesPerSecond: MIB }, fastClock(1));
  await expect(store.get('absent')).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

test('who stops waiting for the rate is let go', async () => {
  await using folder = await makeTempFolder();
  const store = new PacedStore(new FileStore(folder.path), { uploadBytesPerSecond: 1_024 }, fastClock(1));
  const stop = new AbortController();
  const put = store.put('k', Buffer.alloc(MIB), { signal: stop.signal });
  stop.abort();
  await expect(put).rejects.toMatchObject({ code: 'ABORTED' });
  expect(await store.stat('k')).toBeNull();
});
