import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { LocalClaims, SharedClaims } from '@dumont/agent/snapshot/writing/chunk-claims.ts';

function idOf(seed: number): string {
  return createHash('sha256').update(String(seed)).digest('hex');
}

test('every id is claimed once, by a set with room and by one that is overfull', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 4_000 }), fc.array(fc.nat(5_000), { maxLength: 3_000 }), (room, seeds) => {
      const claims = SharedClaims.withRoomFor(room);
      const seen = new Set<number>();
      for (const seed of seeds) {
        expect(claims.claim(idOf(seed))).toBe(!seen.has(seed));
        seen.add(seed);
      }
    }),
    { numRuns: 30 },
  );
  const tight = SharedClaims.withRoomFor(1);
  const ids = Array.from({ length: 5_000 }, (_, seed) => idOf(seed));
  expect(ids.filter((id) => tight.claim(id)).length).toBe(5_000);
  expect(ids.filter((id) => tight.claim(id)).length).toBe(0);
});

test('ids that agree in their first bytes, and ids of zeros, are different ids', () => {
  const claims = SharedClaims.withRoomFor(10);
  const ids = ['00'.repeat(32), `01${'00'.repeat(31)}`, `${'00'.repeat(14)}80${'00'.repeat(17)}`];
  for (const end of ['00', '02', '80']) ids.push(`aabbccdd${'11'.repeat(8)}${end}${'22'.repeat(19)}`);
  const distinct = ids.filter((id) => claims.claim(id));
  // One bit of the first and of the last word is spent on being set.
  expect(distinct).toEqual(ids.filter((id) => id !== ids[1]));
});

test('of several threads that claim the same ids exactly one gets each', async () => {
  const claims = SharedClaims.withRoomFor(20_000);
  const counts = await Promise.all(
    Array.from({ length: 3 }, async () => {
      const worker = new Worker(new URL('./claiming-thread.ts', import.meta.url), {
        workerData: { buffer: claims.buffer, count: 20_000 },
      });
      const [count] = (await once(worker, 'message')) as [number];
      await worker.terminate();
      return count;
    }),
  );
  expect(counts.reduce((sum, count) => sum + count, 0)).toBe(20_000);
});

test('claims of one thread leave out what the store has', () => {
  const claims = new LocalClaims((id) => id === 'known');
  expect([claims.claim('known'), claims.claim('new'), claims.claim('new')]).toEqual([false, true, false]);
});
