import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  decodeIndexObject,
  encodeIndexObject,
  indexEntryAt,
  type IndexedChunk,
} from '@dumont/shared/format/index-object.ts';
import { CODECS } from '@dumont/shared/format/pack.ts';
import { isDumontError } from '@dumont/shared/util/errors.ts';
import { ChunkIndex, indexEntries } from '@dumont/agent/catalogue/chunk-index.ts';

const hex = (digits: number) =>
  fc.string({
    unit: fc.integer({ min: 0, max: 15 }).map((digit) => digit.toString(16)),
    minLength: digits,
    maxLength: digits,
  });
const PACKS = ['00', '11', '22', 'ff'].map((byte) => byte.repeat(16));
/** Ids that share their first word, so that searches collide. */
const ids = fc.oneof(
  hex(64),
  hex(2).map((end) => 'ab'.repeat(31) + end),
);
const chunks: fc.Arbitrary<IndexedChunk[]> = fc.array(
  fc.record({
    chunkId: ids,
    packId: fc.constantFrom(...PACKS),
    offset: fc.integer({ min: 0, max: 2 ** 26 }),
    storedLength: fc.integer({ min: 1, max: 2 ** 22 }),
    rawLength: fc.integer({ min: 1, max: 2 ** 22 }),
    codec: fc.constantFrom(...CODECS),
  }),
  { maxLength: 60 },
);

/** What an index of these objects must know: the first place of each chunk in a pack that is accepted. */
function modelOf(objects: readonly (readonly IndexedChunk[])[], accepts: (packId: string) => boolean) {
  const model = new Map<string, IndexedChunk>();
  for (const object of objects) {
    const first = new Map<string, IndexedChunk>();
    for (const chunk of object) {
      if (chunk.codec !== 'delta' && !first.has(chunk.chunkId)) first.set(chunk.chunkId, chunk);
    }
    for (const [id, chunk] of first) if (accepts(chunk.packId) && !model.has(id)) model.set(id, chunk);
  }
  return model;
}

test('an index object comes back as it was, sorted, each chunk once and no differences', () => {
  fc.assert(
    fc.property(chunks, (content) => {
      const decoded = decodeIndexObject(encodeIndexObject(PACKS, content));
      const found = [...indexEntries(decoded)];
      const model = modelOf([content], () => true);
      expect(decoded.packIds).toEqual(PACKS);
      expect(found).toEqual([...model.values()].toSorted((a, b) => (a.chunkId < b.chunkId ? -1 : 1)));
      for (const [row, entry] of found.entries()) expect(indexEntryAt(decoded, row)).toEqual(entry);
    }),
  );
});

test('the index in memory knows exactly what its objects tell of the packs that are accepted', () => {
  fc.assert(
    fc.property(fc.array(chunks, { maxLength: 4 }), hex(64), (objects, stranger) => {
      const accepts = (packId: string) => packId !== PACKS[1];
      const index = new ChunkIndex(objects.reduce((sum, one) => sum + one.length, 0));
      for (const object of objects) index.add(decodeIndexObject(encodeIndexObject(PACKS, object)), accepts);
      const model = modelOf(objects, accepts);
      expect(index.size).toBe(model.size);
      expect([...index.ids()].toSorted()).toEqual([...model.keys()].toSorted());
      for (const [id, chunk] of model) expect(index.locate(id)).toEqual(chunk);
      for (const id of [stranger, ...objects.flat().map((one) => one.chunkId)])
        expect(index.has(id)).toBe(model.has(id));
    }),
  );
});

test('a full index leaves out the rest and still answers', () => {
  const content = Array.from({ length: 100 }, (_, at): IndexedChunk => {
    const chunkId = at.toString(16).padStart(64, '0');
    return { chunkId, packId: PACKS[0] ?? '', offset: 0, storedLength: 1, rawLength: 1, codec: 'lz4' };
  });
  const index = new ChunkIndex(10);
  index.add(decodeIndexObject(encodeIndexObject(PACKS, content)), () => true);
  expect(index.size).toBe(10);
  expect(content.filter(({ chunkId }) => index.has(chunkId))).toHaveLength(10);
});

test('bytes that are no index object are refused, whatever was changed in one', () => {
  fc.assert(
    fc.property(chunks, fc.nat(), fc.integer({ min: 1, max: 255 }), (content, at, flip) => {
      const bytes = Buffer.from(encodeIndexObject(PACKS, content));
      const place = at % bytes.length;
      bytes[place] = (bytes[place] ?? 0) ^ flip;
      expect(refusal(() => decodeIndexObject(bytes))).toBe(true);
    }),
  );
  expect(refusal(() => decodeIndexObject(new Uint8Array()))).toBe(true);
  expect(refusal(() => decodeIndexObject(encodeIndexObject(PACKS, []).subarray(0, -1)))).toBe(true);
});

function refusal(decode: () => unknown): boolean {
  try {
    decode();
    return false;
  } catch (error) {
    return isDumontError(error, 'CORRUPT');
  }
}
