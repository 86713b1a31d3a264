import { execFileSync, spawnSync } from 'node:child_process';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { joinFrame, parseFrame } from '@dumont/shared/format/lz4-frame.ts';
import { CODECS } from '@dumont/shared/format/pack.ts';
import { encodePlanesHeader, planesLayout } from '@dumont/shared/format/planes.ts';
import { isDumontError } from '@dumont/shared/util/errors.ts';
import { hashHex } from '@dumont/agent/snapshot/chunk-codec.ts';
import { ChunkCoder } from '@dumont/agent/snapshot/planes/chunk-coder.ts';
import { makeCorpora, weights } from '../../../../world/corpora.ts';
import { joinPlanes, readFrame } from '../../../../world/format-reader.ts';
import { random32 } from '../../../../world/random32.ts';

const MIB = 1024 * 1024;
const hasLz4 = spawnSync('lz4', ['--version']).status === 0;
const coder = new ChunkCoder();
const corpora = new Map(makeCorpora(2 * MIB).map(({ name, bytes }) => [name, bytes]));

function roundTrip(raw: Uint8Array) {
  const { frame, codec } = coder.encode(raw);
  const back = coder.decode(frame, { chunkId: hashHex(raw), codec, rawLength: raw.length });
  expect(Buffer.compare(back, raw)).toBe(0);
  return { frame, codec, ratio: raw.length / frame.length };
}

test.each([
  ['bf16', 'planes', 1.38],
  ['fp16', 'planes', 1.1],
  ['fp32', 'planes', 1.15],
  ['text', 'lz4', 1.5],
  ['zeros', 'lz4', 200],
  ['random', 'stored', 0.9999],
] as const)('%s becomes %s, at a ratio of %f at least', (name, codec, ratio) => {
  const bytes = corpora.get(name) ?? Buffer.alloc(1);
  const chunk = roundTrip(bytes);
  expect(chunk.codec).toBe(codec);
  expect(chunk.ratio).toBeGreaterThan(ratio);
});

test('tensors that begin at any byte of a chunk are found', () => {
  for (const [name, ratio] of [
    ['bf16', 1.38],
    ['fp32', 1.15],
  ] as const) {
    for (let cut = 1; cut < 4; cut += 1) {
      const chunk = roundTrip((corpora.get(name) ?? Buffer.alloc(1)).subarray(cut, MIB + cut));
      expect(chunk.codec).toBe('planes');
      expect(chunk.ratio).toBeGreaterThan(ratio);
    }
  }
});

test('small integers in 32 bits become planes or LZ4, whichever is smaller', () => {
  const next = random32(5);
  const tokens = Uint32Array.from({ length: MIB / 4 }, () => next() % 50_000);
  expect(roundTrip(new Uint8Array(tokens.buffer)).ratio).toBeGreaterThan(1.9);
  const counted = Uint32Array.from({ length: MIB / 4 }, (_, index) => index);
  expect(roundTrip(new Uint8Array(counted.buffer)).ratio).toBeGreaterThan(2);
});

test('chunks of every length up to a few groups of words, and the largest, come back', () => {
  const bytes = weights(5 * MIB, 'bf16');
  for (let length = 1; length < 1_200; length += 7) roundTrip(bytes.subarray(0, length));
  for (let length = 16 * 1024 - 3; length < 16 * 1024 + 300; length += 11) roundTrip(bytes.subarray(3, 3 + length));
  expect(roundTrip(bytes.subarray(1, 1 + 4 * MIB)).codec).toBe('planes');
});

test('a sample that misleads costs space, not data', () => {
  const next = random32(6);
  for (let trial = 0; trial < 12; trial += 1) {
    const parts = Array.from({ length: 40 }, () => {
      const source = [...corpora.values()][next() % corpora.size] ?? Buffer.alloc(1);
      const start = next() % MIB;
      return source.subarray(start, start + 1 + (next() % 60_000));
    });
    roundTrip(Buffer.concat(parts));
  }
});

test('a frame of planes is read alike by a reader written from the document', () => {
  const raw = (corpora.get('bf16') ?? Buffer.alloc(1)).subarray(2, 100_001);
  const { frame, codec } = coder.encode(raw);
  expect(codec).toBe('planes');
  expect(Buffer.compare(joinPlanes(readFrame(Buffer.from(frame))), raw)).toBe(0);
});

test.skipIf(!hasLz4)('the lz4 command, where it is installed, verifies and unpacks a frame of planes', () => {
  const raw = corpora.get('bf16') ?? Buffer.alloc(1);
  const { frame } = coder.encode(raw);
  execFileSync('lz4', ['-t'], { input: frame, stdio: ['pipe', 'ignore', 'ignore'] });
  const unpacked = execFileSync('lz4', ['-dc'], { input: frame, maxBuffer: 1 << 25 });
  expect(Buffer.compare(joinPlanes(unpacked), raw)).toBe(0);
});

const small = weights(20_000, 'bf16');
const good = coder.encode(small);
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
  expect(refusal(good.frame, { rawLength: 4 * MIB })).toBe('CORRUPT');
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

test('twenty thousand damaged frames give CORRUPT or the right bytes, and nothing else', () => {
  const damage = fc.array(fc.tuple(fc.nat(good.frame.length - 1), fc.integer({ min: 1, max: 255 })), {
    minLength: 1,
    maxLength: 6,
  });
  const codecs = fc.constantFrom(...CODECS);
  fc.assert(
    fc.property(damage, codecs, fc.nat(good.frame.length), (changes, codec, cut) => {
      const frame = Buffer.from(good.frame);
      for (const [at, change] of changes) frame[at] = (frame[at] ?? 0) ^ change;
      const length = cut % 4 === 0 ? cut : frame.length;
      expect(['CORRUPT', undefined]).toContain(refusal(frame.subarray(0, length), { codec }));
    }),
    { numRuns: 20_000 },
  );
}, 60_000);

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
