import { expect, test } from 'vitest';
import { CODECS } from '@dumont/shared/format/pack.ts';
import { xxh32 } from '@dumont/shared/format/xxh32.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { seededRandom, type Random } from '@dumont/shared/util/random.ts';
import { decodeFrames, encodeFrames } from '@dumont/agent/snapshot/chunk-codec.ts';
import { ChunkCoder, type CodingOptions, type ExpectedChunk } from '@dumont/agent/snapshot/planes/chunk-coder.ts';
import { chunkIdOf, openFrame, sealFrame } from '@dumont/agent/snapshot/seal.ts';
import { makeCorpora } from '../../../world/corpora.ts';
import { fuzz, mutate, randomBytes } from '../../../world/fuzz.ts';

const MIB = 1_048_576;
/** A chunk of 4 MiB, what it unpacks from and the pieces it is put together from. */
const BUDGET = 24 * MIB;
const CHUNK_BYTES = 20_000;

const secrets = { masterId: '0'.repeat(32), idKey: Buffer.alloc(32, 1), frameKey: Buffer.alloc(32, 2) };
const CODINGS: readonly CodingOptions[] = [
  { secrets: null, effort: 'fast' },
  { secrets: null, effort: 'small' },
  { secrets, effort: 'fast' },
];

/** Chunks of every kind of data, encoded in every way, next to what they must decode to. */
function samples(coding: CodingOptions) {
  const coder = new ChunkCoder(coding);
  return makeCorpora(CHUNK_BYTES).map(({ bytes: raw }) => {
    const base = Buffer.from(raw);
    base[7] = 1;
    const { frame: stored, codec } = coder.encode(raw, { elementBytes: 2, base });
    const frame = openFrame(stored, coding.secrets);
    const expected = { chunkId: chunkIdOf(raw, coding.secrets), codec, rawLength: raw.length };
    return { raw, base, frame, expected };
  });
}

/** Changes that mostly leave the frame's header in order, so that what follows it is looked at. */
function damage(frame: Uint8Array, random: Random): Buffer {
  if (random.next() < 0.3) return mutate(frame, random);
  const changed = Buffer.concat([frame.subarray(0, 15), mutate(frame.subarray(15), random)]);
  if (random.next() < 0.3) changed.writeBigUInt64LE(BigInt(Math.floor(2 ** (random.next() * 63))), 6);
  changed[14] = (xxh32(changed.subarray(4, 14)) >>> 8) & 0xff;
  return changed;
}

/** Mostly what is true, else another codec or length. */
function lie(expected: ExpectedChunk, random: Random): ExpectedChunk {
  const draw = random.next();
  if (draw < 0.7) return expected;
  if (draw < 0.85) return { ...expected, codec: CODECS[Math.floor(random.next() * CODECS.length)] ?? 'lz4' };
  return { ...expected, rawLength: 1 + Math.floor(random.next() * 4 * MIB) };
}

test.each(CODINGS.entries().toArray())(
  'any frame decodes to exactly its chunk or is refused (coding %i)',
  async (_, coding) => {
    const coder = new ChunkCoder(coding);
    const all = samples(coding);
    const { refused } = await fuzz({ inputs: 8_000, maxAllocatedBytes: BUDGET }, (input) => {
      const random = seededRandom(input);
      const sample = must(all[input % all.length], 'a sample');
      const frame = input % 16 === 0 ? randomBytes(300, random) : damage(sample.frame, random);
      // What is changed after sealing is refused by the seal; what lies below it is the reader's own to look at.
      const stored =
        input % 8 === 1 ? mutate(sealFrame(sample.frame, coding.secrets), random) : sealFrame(frame, coding.secrets);
      const expected = lie(sample.expected, random);
      const base = Buffer.alloc(expected.rawLength);
      sample.base.copy(base);
      expect(Buffer.compare(coder.decode(stored, expected, base), sample.raw)).toBe(0);
    });
    expect(refused).toBeGreaterThan(2_000);
  },
);

test('any row of frames unpacks within the bytes allowed or is refused', async () => {
  const packed = encodeFrames(Buffer.alloc(3 * MIB, 'so many frames '));
  const { refused } = await fuzz({ inputs: 1_500, maxAllocatedBytes: BUDGET }, (input) => {
    const bytes = mutate(packed, seededRandom(input));
    expect(decodeFrames(bytes, 4 * MIB).length).toBeLessThanOrEqual(4 * MIB);
  });
  expect(refused).toBeGreaterThan(400);
});
