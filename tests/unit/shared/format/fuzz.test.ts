import { expect, test } from 'vitest';
import {
  indexKey,
  manifestKey,
  packKey,
  parseIndexKey,
  parseManifestKey,
  parsePackKey,
  parseSessionKey,
  sessionKey,
} from '@dumont/shared/format/layout.ts';
import { parseFrame } from '@dumont/shared/format/lz4-frame.ts';
import {
  CODECS,
  decodePackIndex,
  decodePackTrailer,
  encodePackIndex,
  PACK_TRAILER_BYTES,
} from '@dumont/shared/format/pack.ts';
import { xxh32 } from '@dumont/shared/format/xxh32.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { fuzz, mutate, randomBytes } from '../../../world/fuzz.ts';

const MIB = 1_048_576;
const BUDGET = MIB;

const THREE_BLOCKS = [
  { bytes: 360, stored: false },
  { bytes: 40, stored: true },
  { bytes: 200, stored: false },
];

/** A frame by hand, from the page that describes it; what is in its blocks does not matter here. */
function frameOf(contentLength: number, blocks: typeof THREE_BLOCKS): Buffer {
  const header = Buffer.alloc(15);
  header.writeUInt32LE(0x184d2204, 0);
  header.writeUInt16LE(0x706c, 4);
  header.writeBigUInt64LE(BigInt(contentLength), 6);
  header[14] = (xxh32(header.subarray(4, 14)) >>> 8) & 0xff;
  const parts = blocks.map(({ bytes, stored }) => {
    const block = Buffer.alloc(4 + bytes, 7);
    block.writeUInt32LE((bytes | (stored ? 0x8000_0000 : 0)) >>> 0, 0);
    return block;
  });
  return Buffer.concat([header, ...parts, Buffer.alloc(8)]);
}

test('any bytes are a frame whose parts lie inside them, or refused', async () => {
  const frames = [frameOf(300, [{ bytes: 300, stored: true }]), frameOf(90_000, THREE_BLOCKS)];
  const { accepted, refused } = await fuzz({ inputs: 40_000, maxAllocatedBytes: BUDGET }, (input) => {
    const random = seededRandom(input);
    const bytes = input % 8 === 0 ? randomBytes(200, random) : mutate(frames[input % 2] ?? Buffer.alloc(0), random);
    const frame = parseFrame(bytes);
    expect(frame.frameLength).toBeLessThanOrEqual(bytes.length);
    expect(frame.blocks.reduce((sum, block) => sum + block.bytes.length, 0)).toBeLessThan(bytes.length);
    expect(frame.contentLength).toBeLessThanOrEqual(4 * MIB + 8);
  });
  expect(Math.min(accepted, refused)).toBeGreaterThan(1_000);
});

test('any end of a pack locates an index inside the pack whose entries are as many as it has room for, or is refused', async () => {
  const entry = { chunkId: 'ab'.repeat(32), offset: 0, storedLength: 100, rawLength: 200, codec: CODECS[1] } as const;
  const tail = encodePackIndex([entry, { ...entry, offset: 100 }, { ...entry, offset: 200 }], 300);
  const pack = Buffer.concat([Buffer.alloc(300, 1), tail]);
  const { accepted, refused } = await fuzz({ inputs: 30_000, maxAllocatedBytes: BUDGET }, (input) => {
    const random = seededRandom(input);
    const bytes = input % 8 === 0 ? randomBytes(200, random) : mutate(pack, random);
    const range = decodePackTrailer(bytes.subarray(-PACK_TRAILER_BYTES), bytes.length);
    expect(range.offset + range.length).toBeLessThanOrEqual(bytes.length);
    const entries = decodePackIndex(bytes.subarray(range.offset, range.offset + range.length), range);
    expect(entries.length * 48).toBe(range.length);
  });
  expect(Math.min(accepted, refused)).toBeGreaterThan(1_000);
});

test('any key is one of ours that is written the same way again, or none', async () => {
  const id = '0123456789abcdef'.repeat(2);
  const snapshotId = newId('snapshot');
  const name = { workspaceId: newId('workspace'), epoch: 3, seq: 7, snapshotId, writerId: 'in_1' };
  const keys = [packKey(id), indexKey(id), sessionKey(snapshotId), manifestKey(name)];
  const written = (key: string): readonly (string | null)[] => {
    const [pack, index] = [parsePackKey(key), parseIndexKey(key)];
    const [session, manifest] = [parseSessionKey(key), parseManifestKey(key)];
    return [
      pack === null ? null : packKey(pack),
      index === null ? null : indexKey(index),
      session === null ? null : sessionKey(session),
      manifest === null ? null : manifestKey(manifest),
    ];
  };
  let known = 0;
  await fuzz({ inputs: 20_000, maxAllocatedBytes: BUDGET }, (input) => {
    const random = seededRandom(input);
    const key = mutate(Buffer.from(keys[input % keys.length] ?? ''), random).toString('latin1');
    for (const again of written(key)) {
      if (again === null) continue;
      known += 1;
      expect(again).toBe(key);
    }
  });
  expect(known).toBeGreaterThan(100);
});
