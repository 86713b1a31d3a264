import { execFileSync, spawnSync } from 'node:child_process';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { FRAME_OVERHEAD_BYTES, parseFrame } from '@dumont/shared/format/lz4-frame.ts';
import { xxh32 } from '@dumont/shared/format/xxh32.ts';
import { decodeFrames, encodeFrames } from '@dumont/agent/snapshot/chunk-codec.ts';
import { joinFrame } from '../../../world/join-frame.ts';

const hasLz4 = spawnSync('lz4', ['--version']).status === 0;

test('xxh32 gives the published values', () => {
  expect(xxh32(Buffer.from(''))).toBe(0x02cc5d05);
  expect(xxh32(Buffer.from('a'))).toBe(0x550d7456);
  expect(xxh32(Buffer.from('abc'))).toBe(0x32d153ff);
  expect(xxh32(Buffer.from('Nobody inspects the spammish repetition'))).toBe(0xe2293b2f);
});

function frameOf(raw: Uint8Array, block: { readonly bytes: Uint8Array; readonly stored: boolean }): Uint8Array {
  return joinFrame({ contentLength: raw.length, contentChecksum: xxh32(raw), blocks: [block] });
}

test('a frame gives back its block, stored or not', () => {
  const raw = Buffer.from('some raw bytes');
  expect(parseFrame(frameOf(raw, { bytes: raw, stored: true }))).toMatchObject({
    contentLength: 14,
    blocks: [{ stored: true, bytes: raw }],
  });
  const block = Buffer.from('short');
  expect(parseFrame(frameOf(raw, { bytes: block, stored: false }))).toMatchObject({
    contentLength: 14,
    blocks: [{ stored: false }],
    frameLength: 32,
  });
  expect(frameOf(raw, { bytes: raw, stored: true }).length).toBe(raw.length + FRAME_OVERHEAD_BYTES);
});

test('no byte of a frame header can be changed or cut off unnoticed', () => {
  const raw = Buffer.from('some raw bytes');
  const frame = frameOf(raw, { bytes: raw, stored: true });
  for (let at = 0; at < 19; at += 1) {
    const damaged = frame.slice();
    damaged[at] = (damaged[at] ?? 0) ^ 0x41;
    expect(() => parseFrame(damaged), `byte ${at}`).toThrow(expect.objectContaining({ code: 'CORRUPT' }));
  }
  for (let length = 0; length < frame.length; length += 1) {
    expect(() => parseFrame(frame.subarray(0, length))).toThrow(expect.objectContaining({ code: 'CORRUPT' }));
  }
});

test('any bytes survive as a row of frames', () => {
  const anyBytes = fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 5_000 }),
    fc
      .tuple(fc.uint8Array({ minLength: 1, maxLength: 40 }), fc.integer({ min: 1, max: 200_000 }))
      .map(([unit, times]) => Buffer.alloc(unit.length * times, unit)),
  );
  fc.assert(
    fc.property(anyBytes, (bytes) => {
      const back = decodeFrames(encodeFrames(bytes), bytes.length);
      expect(Buffer.compare(back, bytes)).toBe(0);
    }),
    { numRuns: 60 },
  );
});

test('bytes that unpack to more than allowed are refused', () => {
  const frames = encodeFrames(Buffer.alloc(5_000_000));
  expect(() => decodeFrames(frames, 4_999_999)).toThrow(expect.objectContaining({ code: 'LIMIT' }));
});

test.skipIf(!hasLz4)('the lz4 command, where it is installed, reads our frames', () => {
  const bytes = Buffer.concat([
    Buffer.alloc(6_000_000, 'text that repeats '),
    crypto.getRandomValues(Buffer.alloc(9_999)),
  ]);
  const unpacked = execFileSync('lz4', ['-dc'], { input: encodeFrames(bytes), maxBuffer: 1 << 25 });
  expect(Buffer.compare(unpacked, bytes)).toBe(0);
});
