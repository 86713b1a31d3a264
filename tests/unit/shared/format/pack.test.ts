import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  CODECS,
  decodePackIndex,
  decodePackTrailer,
  encodePackIndex,
  PACK_TRAILER_BYTES,
} from '@dumont/shared/format/pack.ts';

const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const anyEntry = fc.record({
  chunkId: fc.stringMatching(/^[0-9a-f]{64}$/),
  offset: u32,
  storedLength: u32,
  rawLength: u32,
  codec: fc.constantFrom(...CODECS),
});

test('the last bytes of a pack locate its index, which says where every chunk lies', () => {
  fc.assert(
    fc.property(fc.array(anyEntry), fc.integer({ min: 0, max: 5_000 }), (entries, framesLength) => {
      const pack = Buffer.concat([Buffer.alloc(framesLength, 1), encodePackIndex(entries, framesLength)]);
      const range = decodePackTrailer(pack.subarray(-PACK_TRAILER_BYTES), pack.length);
      expect(decodePackIndex(pack.subarray(range.offset, range.offset + range.length), range)).toEqual(entries);
    }),
  );
});

test('a trailer that points elsewhere is refused', () => {
  const index = Buffer.from(encodePackIndex([], 100));
  const trailer = index.subarray(-PACK_TRAILER_BYTES);
  expect(() => decodePackTrailer(trailer, index.length + 101)).toThrow('outside the pack');
  expect(() => decodePackTrailer(Buffer.alloc(16), index.length + 100)).toThrow('does not end with our trailer');
});

test('no bit of an index can change unnoticed', () => {
  const entry = { chunkId: 'ab'.repeat(32), offset: 1, storedLength: 2, rawLength: 3, codec: 'lz4' as const };
  const pack = Buffer.from(encodePackIndex([entry, { ...entry, offset: 3 }], 0));
  const range = decodePackTrailer(pack.subarray(-PACK_TRAILER_BYTES), pack.length);
  for (let at = range.offset; at < range.offset + range.length; at += 1) {
    const damaged = Buffer.from(pack);
    damaged[at] = (damaged[at] ?? 0) ^ (1 << (at % 8));
    const index = damaged.subarray(range.offset, range.offset + range.length);
    expect(() => decodePackIndex(index, range)).toThrow(expect.objectContaining({ code: 'CORRUPT' }));
  }
});
