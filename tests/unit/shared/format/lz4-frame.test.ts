import { execFileSync, spawnSync } from 'node:child_process';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { FRAME_OVERHEAD_BYTES, parseFrame, writeFrame } from '@dumont/shared/format/lz4-frame.ts';
import { xxh32 } from '@dumont/shared/format/xxh32.ts';
import { decodeFrames, encodeFrames } from '@dumont/agent/snapshot/chunk-codec.ts';

const hasLz4 = spawnSync('lz4', ['--version']).status === 0;

test('xxh32 gives the published values', () => {
  expect(xxh32(Buffer.from(''))).toBe(0x02cc5d05);
  expect(xxh32(Buffer.from('a'))).toBe(0x550d7456);
  expect(xxh32(Buffer.from('abc'))).toBe(0x32d153ff);
  expect(xxh32(Buffer.from('Nobody inspects the spammish repetition'))).toBe(0xe2293b2f);
});

test('a frame gives back its block, stored or not', () => {
  const raw = Buffer.from('some raw bytes');
  expect(parseFrame(writeFrame(raw, null))).toMatchObject({
    contentLength: 14,
    blocks: [{ stored: true, bytes: raw }],
  });
  const block = Buffer.from('short');
  expect(parseFrame(writeFrame(raw, block))).toMatchObject({
    contentLength: 14,
    blocks: [{ stored: false }],
    frameLength: 32,
  });
  expect(writeFrame(raw, Buffer.alloc(99)).length).toBe(raw.length + FRAME_OVERHEAD_BYTES);
});

test('no byte of a frame header can be changed or cut off unnoticed', () => {
  const frame = writeFrame(Buffer.from('some raw bytes'), null);
  for (let at = 0; at < 19; at += 1) {
    const damaged = frame.slice();
    damaged[at] = (damaged[at] ?? 0) ^ 0x41;
    expect(() => parseFrame(damaged), `byte ${at}`).toThrow(expect.objectContaining({ code: 'CORRUPT' }));
  }
  for (let length = 0; length < frame.length; length += 1) {
    expect(() => parseFrame(frame.subarray(0, length))).toThrow(expect.objectContaining({ code: 'CORRUPT' }));
  }
});

test('any bytes survive as a row of frames', async () => {
  const anyBytes = fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 5_000 }),
    fc
      .tuple(fc.uint8Array({ minLength: 1, maxLength: 40 }), fc.integer({ min: 1, max: 200_000 }))
      .map(([unit, times]) => Buffer.alloc(unit.length * times, unit)),
  );
  await fc.assert(
    fc.asyncProperty(anyBytes, async (bytes) => {
      const back = await decodeFrames(await encodeFrames(bytes), bytes.length);
      expect(Buffer.compare(back, bytes)).toBe(0);
    }),
    { numRuns: 60 },
  );
});

test('bytes that unpack to more than allowed are refused', async () => {
  const frames = await encodeFrames(Buffer.alloc(5_000_000));
  await expect(decodeFrames(frames, 4_999_999)).rejects.toMatchObject({ code: 'LIMIT' });
});

test.skipIf(!hasLz4)('the lz4 command, where it is installed, reads our frames', async () => {
  const bytes = Buffer.concat([
    Buffer.alloc(6_000_000, 'text that repeats '),
    crypto.getRandomValues(Buffer.alloc(9_999)),
  ]);
  const unpacked = execFileSync('lz4', ['-dc'], { input: await encodeFrames(bytes), maxBuffer: 1 << 25 });
  expect(Buffer.compare(unpacked, bytes)).toBe(0);
});
