import { execFileSync, spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { hashHex } from '@dumont/agent/snapshot/chunk-codec.ts';
import { ChunkCoder, maxFrameBytes, type ChunkHint } from '@dumont/agent/snapshot/planes/chunk-coder.ts';
import { chunkIdOf } from '@dumont/agent/snapshot/seal.ts';
import { makeCorpora, trainedOn, weights } from '../../../../world/corpora.ts';
import { joinPlanes, readChunk, readFrame } from '../../../../world/format-reader.ts';
import { random32 } from '../../../../world/random32.ts';

const MIB = 1024 * 1024;
const hasLz4 = spawnSync('lz4', ['--version']).status === 0;
const fast = new ChunkCoder({ secrets: null, effort: 'fast' });
const small = new ChunkCoder({ secrets: null, effort: 'small' });
const corpora = new Map(makeCorpora(2 * MIB).map(({ name, bytes }) => [name, bytes]));

function roundTrip(raw: Uint8Array, hint: ChunkHint = {}, coder = fast) {
  const { frame, codec } = coder.encode(raw, hint);
  expect(frame.length).toBeLessThanOrEqual(maxFrameBytes(raw.length));
  const back = coder.decode(frame, { chunkId: hashHex(raw), codec, rawLength: raw.length }, hint.base);
  expect(Buffer.compare(back, raw)).toBe(0);
  return { frame, codec, ratio: raw.length / frame.length };
}

test.each([
  ['bf16', 'planes', 1.38],
  ['fp16', 'planes', 1.1],
  ['fp32', 'planes', 1.15],
  ['text', 'lz4', 1.9],
  ['zeros', 'lz4', 200],
  ['random', 'stored', 0.9999],
] as const)('%s becomes %s, at a ratio of %f at least', (name, codec, ratio) => {
  const chunk = roundTrip(corpora.get(name) ?? Buffer.alloc(1));
  expect(chunk.codec).toBe(codec);
  expect(chunk.ratio).toBeGreaterThan(ratio);
});

test.each([
  ['bf16', 'lanes-zstd', 1.48],
  ['fp16', 'lanes-zstd', 1.17],
  ['fp32', 'lanes-zstd', 1.19],
  ['text', 'zstd', 2.8],
  ['zeros', 'zstd', 1_000],
  ['random', 'stored', 0.9999],
] as const)('with more effort %s becomes %s, at a ratio of %f at least', (name, codec, ratio) => {
  const chunk = roundTrip(corpora.get(name) ?? Buffer.alloc(1), {}, small);
  expect(chunk.codec).toBe(codec);
  expect(chunk.ratio).toBeGreaterThan(ratio);
});

test('the size of its numbers, when it is known, makes no chunk larger', () => {
  for (const [name, elementBytes] of [
    ['bf16', 2],
    ['fp16', 2],
    ['fp32', 4],
  ] as const) {
    const raw = (corpora.get(name) ?? Buffer.alloc(1)).subarray(0, MIB);
    for (const coder of [fast, small]) {
      expect(roundTrip(raw, { elementBytes }, coder).ratio).toBeGreaterThan(0.999 * roundTrip(raw, {}, coder).ratio);
    }
  }
  // A wrong hint costs space, not data.
  for (const { bytes } of makeCorpora(MIB / 4)) {
    for (const elementBytes of [1, 2, 4, 8] as const) roundTrip(bytes, { elementBytes }, small);
  }
});

test.each([
  [0.01, 2.3],
  [0.001, 4.3],
  [0.0001, 20],
])('bf16 weights that training moved by %f become a difference, at a ratio of %f at least', (step, ratio) => {
  const [base, raw] = trainedOn(MIB, step);
  const chunk = roundTrip(raw, { elementBytes: 2, base });
  expect(chunk.codec).toBe('delta');
  expect(chunk.ratio).toBeGreaterThan(ratio);
  expect(roundTrip(raw, { base }).ratio).toBeGreaterThan(ratio);
});

test('a base that does not help, or is of another length, is not used', () => {
  const raw = (corpora.get('bf16') ?? Buffer.alloc(1)).subarray(0, MIB);
  const other = corpora.get('random') ?? Buffer.alloc(1);
  expect(roundTrip(raw, { base: other.subarray(0, MIB) }).codec).toBe('planes');
  expect(roundTrip(raw, { base: raw.subarray(1) }).codec).toBe('planes');
  const text = (corpora.get('text') ?? Buffer.alloc(1)).subarray(0, MIB);
  expect(roundTrip(text, { base: other.subarray(0, MIB) }, small).codec).toBe('zstd');
});

test('a difference takes its own base to decode', () => {
  const [base, raw] = trainedOn(MIB, 0.001);
  const { frame, codec } = fast.encode(raw, { base });
  const expected = { chunkId: hashHex(raw), codec, rawLength: raw.length };
  for (const wrong of [undefined, base.subarray(1), Buffer.alloc(base.length)]) {
    expect(() => fast.decode(frame, expected, wrong)).toThrow(expect.objectContaining({ code: 'CORRUPT' }));
  }
  expect(Buffer.compare(readChunk(Buffer.from(frame), 5, base), raw)).toBe(0);
});

test('a frame goes straight into a pack, as the one encode gives', () => {
  const target = Buffer.alloc(maxFrameBytes(2 * MIB) + 100, 7);
  for (const coder of [fast, small]) {
    for (const { bytes } of makeCorpora(2 * MIB)) {
      const { frame, codec } = coder.encode(bytes);
      target.fill(7);
      expect(coder.encodeInto(bytes, {}, target, 100)).toEqual({ length: frame.length, codec });
      expect(Buffer.compare(target.subarray(100, 100 + frame.length), frame)).toBe(0);
      expect(target.subarray(0, 100).every((byte) => byte === 7)).toBe(true);
    }
  }
  expect(() => fast.encodeInto(Buffer.alloc(100), {}, Buffer.alloc(100), 0)).toThrow('room');
});

test('chunks of an encrypted store are sealed, whatever their codec, and open with its keys alone', () => {
  const secrets = { masterId: '0'.repeat(32), idKey: Buffer.alloc(32, 1), frameKey: Buffer.alloc(32, 2) };
  for (const effort of ['fast', 'small'] as const) {
    const coder = new ChunkCoder({ secrets, effort });
    for (const { bytes } of makeCorpora(MIB / 4)) {
      const { frame, codec } = coder.encode(bytes);
      const expected = { chunkId: chunkIdOf(bytes, secrets), codec, rawLength: bytes.length };
      expect(Buffer.compare(coder.decode(frame, expected), bytes)).toBe(0);
      expect(() => fast.decode(frame, expected)).toThrow(expect.objectContaining({ code: 'CORRUPT' }));
    }
  }
});

test('a view holds until the coder is used again, a copy for ever', () => {
  const raw = (corpora.get('bf16') ?? Buffer.alloc(1)).subarray(0, MIB);
  const { frame, codec } = fast.encode(raw);
  const expected = { chunkId: hashHex(raw), codec, rawLength: raw.length };
  const copy = fast.decode(frame, expected);
  expect(Buffer.compare(fast.decodeView(frame, expected), raw)).toBe(0);
  fast.encode(corpora.get('random') ?? Buffer.alloc(1));
  expect(Buffer.compare(copy, raw)).toBe(0);
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
  for (let length = 900; length < 1_200; length += 7) roundTrip(bytes.subarray(0, length), {}, small);
  for (let length = 16 * 1024 - 3; length < 16 * 1024 + 300; length += 11) roundTrip(bytes.subarray(3, 3 + length));
  expect(roundTrip(bytes.subarray(1, 1 + 4 * MIB)).codec).toBe('planes');
  expect(roundTrip(bytes.subarray(1, 1 + 4 * MIB), {}, small).codec).toBe('lanes-zstd');
  expect(roundTrip(Buffer.alloc(4 * MIB), {}, small).codec).toBe('zstd');
});

test('a sample that misleads costs space, not data', () => {
  const next = random32(6);
  for (let trial = 0; trial < 12; trial += 1) {
    const parts = Array.from({ length: 40 }, () => {
      const source = [...corpora.values()][next() % corpora.size] ?? Buffer.alloc(1);
      const start = next() % MIB;
      return source.subarray(start, start + 1 + (next() % 60_000));
    });
    for (const coder of [fast, small]) roundTrip(Buffer.concat(parts), {}, coder);
  }
});

test('a frame of planes is read alike by a reader written from the document', () => {
  const raw = (corpora.get('bf16') ?? Buffer.alloc(1)).subarray(2, 100_001);
  const { frame, codec } = fast.encode(raw);
  expect(codec).toBe('planes');
  expect(Buffer.compare(joinPlanes(readFrame(Buffer.from(frame))), raw)).toBe(0);
});

test.skipIf(!hasLz4)('the lz4 command, where it is installed, verifies and unpacks a frame of planes', () => {
  const raw = corpora.get('bf16') ?? Buffer.alloc(1);
  const { frame } = fast.encode(raw);
  execFileSync('lz4', ['-t'], { input: frame, stdio: ['pipe', 'ignore', 'ignore'] });
  const unpacked = execFileSync('lz4', ['-dc'], { input: frame, maxBuffer: 1 << 25 });
  expect(Buffer.compare(joinPlanes(unpacked), raw)).toBe(0);
});
