import { describe, expect, test } from 'vitest';
import { systemClock } from '@dumont/shared/util/clock.ts';
import type { ObjectStore } from '@dumont/agent/storage/object-store.ts';

export interface OpenedStore extends AsyncDisposable {
  readonly store: ObjectStore;
}

/** Stores tell whole seconds, and simulated ones run ahead. */
const CLOCKS_APART_MS = 600_000;

/** What every object store does, whoever keeps the objects: one suite for all of them. */
export function describeObjectStore(
  name: string,
  open: () => Promise<OpenedStore>,
  { canDelete } = { canDelete: true },
): void {
  describe(`an object store on ${name}`, () => {
    test('gives back what was put, whole and by range', async () => {
      await using opened = await open();
      const { store } = opened;
      const bytes = Buffer.from(Array.from({ length: 3_000_000 }, (_, index) => (index * 7) & 255));
      expect(await store.put('packs/one', bytes)).toBe('stored');
      expect(Buffer.compare(await store.get('packs/one'), bytes)).toBe(0);
      const range = await store.get('packs/one', { range: { offset: 1_000_001, length: 17 } });
      expect(Buffer.compare(range, bytes.subarray(1_000_001, 1_000_018))).toBe(0);
      expect(await store.stat('packs/one')).toMatchObject({ sizeBytes: bytes.length });
    });

    test('holds empty objects', async () => {
      await using opened = await open();
      await opened.store.put('empty', new Uint8Array());
      expect(await opened.store.get('empty')).toHaveLength(0);
      expect(await opened.store.stat('empty')).toMatchObject({ sizeBytes: 0 });
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
      expect(await keysOf(store, '')).toEqual(all);
      expect(await keysOf(store, 'a/')).toEqual(['a/b', 'a/c/d']);
      expect(await keysOf(store, 'manifests/1')).toEqual(['manifests/1', 'manifests/10']);
      expect(await keysOf(store, 'nothing/')).toEqual([]);
    });

    if (canDelete) {
      test('deletes, and deleting again does nothing', async () => {
        await using opened = await open();
        await opened.store.put('gone', Buffer.from('x'));
        await opened.store.delete('gone');
        await opened.store.delete('gone');
        expect(await opened.store.stat('gone')).toBeNull();
      });
    } else {
      test('has no right to delete, says so, and keeps the object', async () => {
        await using opened = await open();
        await opened.store.put('kept', Buffer.from('x'));
        await expect(opened.store.delete('kept')).rejects.toMatchObject({ code: 'UNAUTHORIZED', retryable: false });
        expect(await opened.store.stat('kept')).toMatchObject({ sizeBytes: 1 });
      });
    }

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

    test('tells when each object was written', async () => {
      await using opened = await open();
      const beforeMs = systemClock.nowMs() - CLOCKS_APART_MS;
      await opened.store.put('dated/one', Buffer.from('x'));
      for await (const { key, sizeBytes, modifiedMs } of opened.store.list('dated/')) {
        expect([key, sizeBytes]).toEqual(['dated/one', 1]);
        expect(modifiedMs).toBeGreaterThan(beforeMs);
        expect(modifiedMs).toBeLessThan(systemClock.nowMs() + CLOCKS_APART_MS);
      }
    });
  });
}

/** Every key below a prefix, in the order of the listing. */
export async function keysOf(store: ObjectStore, prefix: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { key } of store.list(prefix)) found.push(key);
  return found;
}
