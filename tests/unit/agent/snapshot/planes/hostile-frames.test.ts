import { zstdCompressSync } from 'node:zlib';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseFrame } from '@dumont/shared/format/lz4-frame.ts';
import { CODECS, type Codec } from '@dumont/shared/format/pack.ts';
import { encodePlanesHeader, planesLayout } from '@dumont/shared/format/planes.ts';
import { isDumontError } from '@dumont/shared/util/errors.ts';
import { hashHex } from '@dumont/agent/snapshot/chunk-codec.ts';
import { ChunkCoder } from '@dumont/agent/snapshot/planes/chunk-coder.ts';
import { zstdWrap } from '@dumont/shared/format/zstd-frame.ts';
import { trainedOn, weights } from '../../../../world/corpora.ts';
import { splitPlanes } from '../../../../world/format-reader.ts';
import { joinFrame } from '../../../../world/join-frame.ts';
import { random32 } from '../../../../world/random32.ts';

const coder = new ChunkCoder({ secrets: null, effort: 'fast' });

const small = weights(20_000, 'bf16');
const good = coder.encode(small, { elementBytes: 2 });
const goodParts = parseFrame(good.frame);
const expected = { chunkId: hashHex(small), codec: good.codec, rawLength: small.length };

/** The error's code; undefined when it gives the very bytes of the chunk, which is no harm. */
function refusal(frame: Uint8Array, changes: Partial<typeof expected> = {}): string | undefined {
  try {
    expect(Buffer.compare(coder.decode(frame, { ...expected, ...changes }), small)).toBe(0);
    return undefined;
  } catch (error) {
    if (!isDumontError(error)) throw error;
    return error.code;
  }
}

test('a frame read as another codec, length or chunk is corrupt', () => {
  expect(refusal(good.frame)).toBeUndefined();
  expect(refusal(good.frame, { codec: 'lz4' })).toBe('CORRUPT');
  expect(refusal(good.frame, { codec: 'stored' })).toBe('CORRUPT');
  expect(refusal(good.frame, { rawLength: small.length - 1 })).toBe('CORRUPT');
  expect(refusal(good.frame, { rawLength: 4 * 1024 * 1024 })).toBe('CORRUPT');
  expect(refusal(good.frame, { chunkId: '0'.repeat(64) })).toBe('CORRUPT');
  expect(refusal(Buffer.concat([good.frame, Buffer.alloc(1)]))).toBe('CORRUPT');
  const stored = coder.encode(small.subarray(0, 300));
  expect(refusal(stored.frame, { codec: 'planes', rawLength: 300 })).toBe('CORRUPT');
});

test('every byte of the header of planes matters', () => {
  const [first, ...rest] = goodParts.blocks;
  for (let at = 0; at < 8; at += 1) {
    for (const change of [1, 2, 4, 8, 16, 32, 64, 128, 255]) {
      const header = Buffer.from(first?.bytes ?? []);
      header[at] = (header[at] ?? 0) ^ change;
      const frame = joinFrame({ ...goodParts, blocks: [{ bytes: header, stored: true }, ...rest] });
      expect(refusal(frame), `byte ${at} ^ ${change}`).toBe('CORRUPT');
    }
  }
});

/** One frame of every codec, as small as can be. */
const FRAMES: readonly { readonly codec: Codec; readonly frame: Uint8Array; readonly raw: Buffer; base?: Buffer }[] =
  (() => {
    const [base, trained] = trainedOn(64 * 1024, 0.001);
    const text = Buffer.from(
      Array.from({ length: 90 }, (_, step) => `step ${step} loss ${90 / (step + 7)}\n`).join(''),
    );
    const few = weights(800, 'bf16');
    const zstd = (content: Buffer) => {
      const packed = zstdCompressSync(content);
      return Buffer.concat([zstdWrap(packed.length), packed]);
    };
    return [
      { codec: 'stored', raw: few, frame: coder.encode(few).frame },
      { codec: 'lz4', raw: text, frame: coder.encode(text).frame },
      { codec: 'planes', raw: small, frame: good.frame },
      { codec: 'zstd', raw: text, frame: zstd(text) },
      { codec: 'lanes-zstd', raw: few, frame: zstd(splitPlanes(few, 0, [null, null, null, null])) },
      { codec: 'delta', raw: trained, frame: coder.encode(trained, { base }).frame, base },
    ];
  })();

test.each(FRAMES)(
  'thirty thousand damaged frames of $codec give CORRUPT or the right bytes',
  (one) => {
    const { codec, raw, base } = one;
    const known = { chunkId: hashHex(raw), codec, rawLength: raw.length };
    expect(Buffer.compare(coder.decode(one.frame, known, base), raw)).toBe(0);
    const next = random32(CODECS.indexOf(codec) + 20);
    const outcomes = { corrupt: 0, right: 0 };
    for (let trial = 0; trial < 30_000; trial += 1) {
      const damaged = Buffer.from(one.frame);
      // Half of the damage is where the lengths are.
      const reach = trial % 2 === 0 ? Math.min(60, damaged.length) : damaged.length;
      for (let left = 1 + (next() % 4); left > 0; left -= 1) damaged[next() % reach] = next();
      const frame = trial % 8 === 0 ? damaged.subarray(0, next() % damaged.length) : damaged;
      const read = trial % 16 === 5 ? (CODECS[next() % CODECS.length] ?? codec) : codec;
      try {
        if (Buffer.compare(coder.decodeView(frame, { ...known, codec: read }, base), raw) !== 0)
          throw new Error('wrong');
        outcomes.right += 1;
      } catch (error) {
        if (!isDumontError(error, 'CORRUPT')) throw error;
        outcomes.corrupt += 1;
      }
    }
    expect(outcomes.corrupt).toBeGreaterThan(20_000);
  },
  120_000,
);

test('Zstandard frames that unpack to more or less, ask for a large window, or are followed by others are corrupt', () => {
  const raw = Buffer.alloc(100_000, 'text that repeats ');
  const known = { chunkId: hashHex(raw), codec: 'zstd', rawLength: raw.length } as const;
  const wrap = (zstd: Uint8Array) => Buffer.concat([zstdWrap(zstd.length), zstd]);
  const good = zstdCompressSync(raw);
  expect(Buffer.compare(coder.decode(wrap(good), known), raw)).toBe(0);
  const bomb = zstdCompressSync(Buffer.alloc(100 * 1024 * 1024));
  // No content size, a window of 2 GiB, then a raw block.
  const wide = Buffer.from('28b52ffd00a8090000', 'hex');
  const hostile = [
    wrap(bomb),
    wrap(wide),
    wrap(Buffer.concat([good, good])),
    wrap(Buffer.concat([good, Buffer.alloc(3)])),
    wrap(zstdCompressSync(raw.subarray(1))),
    wrap(good.subarray(0, -1)),
    Buffer.concat([wrap(good), Buffer.alloc(1)]),
    Buffer.alloc(0),
  ];
  for (const [index, frame] of hostile.entries()) {
    const outcome = () => coder.decode(frame, known);
    expect(outcome, `frame ${index}`).toThrow(expect.objectContaining({ code: 'CORRUPT' }));
    expect(() => coder.decode(frame, { ...known, codec: 'lanes-zstd' })).toThrow();
  }
});

test('hostile blocks behind a good header of planes are corrupt', () => {
  const anyOrigin = fc.option(fc.nat(255));
  const anyHostile = fc.record({
    rawLength: fc.integer({ min: 1, max: 9_000 }),
    leadBytes: fc.nat(3),
    origins: fc.tuple(anyOrigin, anyOrigin, anyOrigin, anyOrigin),
    garbage: fc.uint8Array({ minLength: 1, maxLength: 400 }),
    /** By segment: LZ4 garbage of this length, or stored with this much too much or too little. */
    blocks: fc.array(fc.record({ stored: fc.boolean(), slip: fc.integer({ min: -1, max: 1 }) }), { minLength: 32 }),
  });
  fc.assert(
    fc.property(anyHostile, ({ rawLength, garbage, blocks, ...shape }) => {
      const layout = planesLayout(rawLength, shape);
      const first = Buffer.concat([encodePlanesHeader(shape), Buffer.alloc(layout?.restBytes ?? rawLength)]);
      const rest = (layout?.segments ?? []).map(({ length }, index) => {
        const { stored, slip } = blocks[index] ?? { stored: true, slip: 0 };
        return stored ? { stored, bytes: Buffer.alloc(length + slip, garbage) } : { stored, bytes: garbage };
      });
      const frame = joinFrame({
        contentLength: rawLength + 8,
        contentChecksum: 0,
        blocks: [{ bytes: first, stored: true }, ...rest],
      });
      expect(refusal(frame, { rawLength })).toBe('CORRUPT');
    }),
    { numRuns: 3_000 },
  );
});
