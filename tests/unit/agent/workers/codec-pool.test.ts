import { expect, test } from 'vitest';
import { hashHex } from '@dumont/agent/snapshot/chunk-codec.ts';
import { CodecPool } from '@dumont/agent/workers/codec-pool.ts';
import { makeCorpora } from '../../../world/corpora.ts';

const CODING = { secrets: null, effort: 'fast' } as const;

const chunks = makeCorpora(1024 * 1024).flatMap(({ bytes }) => [
  bytes,
  bytes.subarray(3, 200_000),
  bytes.subarray(7, 99),
]);

test('many chunks at once come back from the threads as they went in', async () => {
  await using pool = new CodecPool({ ...CODING, warmUpBytes: 0 });
  await Promise.all(
    [...chunks, ...chunks].map(async (raw) => {
      const { frame, codec } = await pool.encode(raw);
      const back = await pool.decode(frame, { chunkId: hashHex(raw), codec, rawLength: raw.length });
      expect(Buffer.compare(back, raw)).toBe(0);
    }),
  );
});

test('a chunk is encoded alike on a thread and on the caller', async () => {
  await using threads = new CodecPool({ ...CODING, warmUpBytes: 0 });
  await using here = new CodecPool({ ...CODING, warmUpBytes: Number.MAX_SAFE_INTEGER });
  for (const raw of chunks) {
    const [one, other] = await Promise.all([threads.encode(raw), here.encode(raw)]);
    expect(one.codec).toBe(other.codec);
    expect(Buffer.compare(one.frame, other.frame)).toBe(0);
  }
});

test('damage found on a thread is a CORRUPT error, and the thread goes on', async () => {
  await using pool = new CodecPool({ ...CODING, warmUpBytes: 0 });
  const raw = chunks[0] ?? Buffer.alloc(1);
  const { frame, codec } = await pool.encode(raw);
  const expected = { chunkId: hashHex(raw), codec, rawLength: raw.length };
  const damaged = Buffer.from(frame);
  damaged[5_000] = (damaged[5_000] ?? 0) ^ 1;
  await expect(pool.decode(damaged, expected)).rejects.toMatchObject({ code: 'CORRUPT' });
  expect(Buffer.compare(await pool.decode(frame, expected), raw)).toBe(0);
});

test('disposing ends what is under way with ABORTED, and nothing starts after it', async () => {
  const pool = new CodecPool({ ...CODING, warmUpBytes: 0 });
  const raw = chunks[0] ?? Buffer.alloc(1);
  const underWay = Array.from({ length: 20 }, () => pool.encode(raw));
  const outcomes = Promise.allSettled(underWay);
  await pool[Symbol.asyncDispose]();
  await pool[Symbol.asyncDispose]();
  for (const outcome of await outcomes) {
    if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'ABORTED' });
  }
  await expect(pool.encode(raw)).rejects.toMatchObject({ code: 'ABORTED' });
});
