import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { CodecKernel } from '@dumont/agent/snapshot/planes/codec-kernel.ts';
import { makeCorpora } from '../../../../world/corpora.ts';
import { readBlock } from '../../../../world/format-reader.ts';
import { random32 } from '../../../../world/random32.ts';

const kernel = new CodecKernel();
const GUARD = 0xa5;
/** Behind the end of an output so much may be overwritten, and nothing beyond it. */
const MARGIN_BYTES = 64;

/** Bytes with repetitions of every distance and length. */
const anyRepetitive = fc
  .tuple(fc.nat(), fc.integer({ min: 1, max: 6_000 }), fc.integer({ min: 1, max: 40 }))
  .map(([seed, length, spread]) => {
    const next = random32(seed);
    const bytes = Buffer.alloc(length);
    for (let at = 0; at < length;) {
      const isCopy = at > 0 && next() % 3 > 0;
      const distance = 1 + (next() % Math.min(at || 1, next() % 2 === 0 ? spread : 5_000));
      for (let left = 1 + (next() % (next() % 8 === 0 ? 700 : spread)); left > 0 && at < length; left -= 1, at += 1) {
        bytes[at] = isCopy ? (bytes[at - distance] ?? 0) : next();
      }
    }
    return bytes;
  });

function pack(raw: Uint8Array): Buffer | null {
  const length = kernel.packBlock(kernel.load(raw), 0);
  expect(length).toBeLessThan(raw.length);
  return length === 0 ? null : Buffer.from(kernel.frame.subarray(0, length));
}

/** What a block unpacks to; null when it is refused. Looks whether anything else was touched. */
function unpack(block: Uint8Array, rawLength: number): Buffer | null {
  const around = kernel.raw(rawLength + 4_096).fill(GUARD);
  const target = around.subarray(2_048, 2_048 + rawLength);
  const isGood = kernel.unpackBlock(block, target);
  expect(around.subarray(0, 2_048).every((byte) => byte === GUARD)).toBe(true);
  expect(around.subarray(2_048 + rawLength + MARGIN_BYTES).every((byte) => byte === GUARD)).toBe(true);
  return isGood ? Buffer.from(target) : null;
}

test('what the encoder packs, the decoder and a plain one written from the document unpack', () => {
  fc.assert(
    fc.property(anyRepetitive, (raw) => {
      const block = pack(raw);
      if (block === null) return;
      expect(unpack(block, raw.length)?.equals(raw)).toBe(true);
      expect(readBlock(block).equals(raw)).toBe(true);
      // The format wants it: the last five bytes are literals.
      expect(block.subarray(-5).equals(raw.subarray(-5))).toBe(true);
    }),
    { numRuns: 2_000 },
  );
});

test('large chunks of every kind of data come back', () => {
  for (const { bytes } of makeCorpora(4 * 1024 * 1024)) {
    const block = pack(bytes);
    if (block !== null) {
      kernel.raw(bytes.length).fill(0);
      expect(kernel.unpackBlock(block, kernel.raw(bytes.length))).toBe(true);
      expect(Buffer.compare(kernel.raw(bytes.length), bytes)).toBe(0);
    }
  }
});

test('a match reaches back over 65,535 bytes and no farther', () => {
  const next = random32(8);
  const unit = Buffer.from(Array.from({ length: 200 }, () => next()));
  for (const gap of [65_000, 65_334, 65_335, 65_336, 66_000]) {
    const raw = Buffer.concat([
      unit,
      Buffer.from(Array.from({ length: gap }, () => next())),
      unit,
      Buffer.alloc(2_000),
    ]);
    const block = pack(raw);
    expect(block).not.toBeNull();
    if (block !== null) expect(readBlock(block).equals(raw)).toBe(true);
  }
});

test('a block for another length is refused', () => {
  const raw = Buffer.alloc(5_000, 'some text that repeats itself ');
  const block = pack(raw) ?? Buffer.alloc(0);
  for (const slip of [-4_999, -20, -1, 1, 20, 4_000]) expect(unpack(block, raw.length + slip)).toBeNull();
  expect(unpack(block.subarray(0, -1), raw.length)).toBeNull();
  expect(unpack(Buffer.concat([block, Buffer.alloc(1)]), raw.length)).toBeNull();
  expect(unpack(Buffer.alloc(0), 1)).toBeNull();
});

test('a hundred thousand damaged blocks touch nothing outside, and end', () => {
  const raws = fc.sample(anyRepetitive, { numRuns: 40, seed: 3 });
  const next = random32(11);
  for (const raw of raws) {
    const block = pack(raw);
    if (block === null) continue;
    for (let trial = 0; trial < 2_500; trial += 1) {
      const damaged = Buffer.from(block);
      for (let left = 1 + (next() % 4); left > 0; left -= 1) {
        damaged[next() % damaged.length] = next() % 4 === 0 ? 255 : next();
      }
      const from = damaged.subarray(0, trial % 5 === 0 ? next() % damaged.length : damaged.length);
      const around = kernel.raw(raw.length + 256);
      around.fill(GUARD, raw.length);
      kernel.unpackBlock(from, around.subarray(0, raw.length));
      if (around.subarray(raw.length + MARGIN_BYTES).some((byte) => byte !== GUARD))
        throw new Error('it wrote outside');
    }
  }
});
