import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { CODECS, decodePackIndex, decodePackTrailer, PACK_TRAILER_BYTES } from '@dumont/shared/format/pack.ts';
import { ChunkCoder } from '@dumont/agent/snapshot/planes/chunk-coder.ts';
import { chunkIdOf, type StoreSecrets } from '@dumont/agent/snapshot/seal.ts';
import { joinPlanes, readPack } from '../../../world/format-reader.ts';

/** The vectors were written once and stay: a change that no longer reads them needs a new format version. */
interface VectorChunk {
  readonly chunkId: string;
  readonly codec: (typeof CODECS)[number];
  /** Of a difference. */
  readonly baseId?: string;
  readonly offset: number;
  readonly storedLength: number;
  readonly hex: string;
}
interface Vectors {
  readonly chunks: readonly VectorChunk[];
  readonly sealed: {
    readonly masterId: string;
    readonly idKey: string;
    readonly frameKey: string;
    readonly chunks: readonly VectorChunk[];
  };
}

const folder = new URL('../../../vectors/format/', import.meta.url);
const bytesOf = (name: string) => Buffer.from(readFileSync(new URL(name, folder), 'utf8').replaceAll('\n', ''), 'hex');
const vectors = JSON.parse(readFileSync(new URL('chunks.json', folder), 'utf8')) as Vectors;
const hasLz4 = spawnSync('lz4', ['--version']).status === 0;

const secrets: StoreSecrets = {
  masterId: vectors.sealed.masterId,
  idKey: Buffer.from(vectors.sealed.idKey, 'hex'),
  frameKey: Buffer.from(vectors.sealed.frameKey, 'hex'),
};
const PACKS = [
  { name: 'pack', pack: bytesOf('pack.hex'), chunks: vectors.chunks, secrets: null },
  { name: 'sealed pack', pack: bytesOf('sealed-pack.hex'), chunks: vectors.sealed.chunks, secrets },
];

test('there is a vector of every codec', () => {
  expect(vectors.chunks.map(({ codec }) => codec)).toEqual(CODECS);
  expect(vectors.sealed.chunks.map(({ codec }) => codec)).toEqual(CODECS);
});

test.each(PACKS)('the $name of the vectors is read by a reader written from the document', (vector) => {
  const baseOf = new Map(vector.chunks.map(({ chunkId, baseId }) => [chunkId, baseId ?? '']));
  const keys = vector.secrets === null ? {} : { frameKey: Buffer.from(vector.secrets.frameKey) };
  const read = readPack(vector.pack, { baseOf, ...keys });
  expect(read.map(({ chunkId, codec, raw }) => ({ chunkId, codec: CODECS[codec], hex: raw.toString('hex') }))).toEqual(
    vector.chunks.map(({ chunkId, codec, hex }) => ({ chunkId, codec, hex })),
  );
  for (const { chunkId, raw } of read) expect(chunkIdOf(raw, vector.secrets)).toBe(chunkId);
});

test.each(PACKS)('the $name of the vectors is read by the engine', ({ pack, chunks, secrets }) => {
  const range = decodePackTrailer(pack.subarray(-PACK_TRAILER_BYTES), pack.length);
  const entries = decodePackIndex(pack.subarray(range.offset, range.offset + range.length), range);
  expect(entries).toEqual(
    chunks.map(({ chunkId, codec, offset, storedLength, hex }) => {
      return { chunkId, codec, offset, storedLength, rawLength: hex.length / 2 };
    }),
  );
  const coder = new ChunkCoder({ secrets, effort: 'fast' });
  for (const [index, entry] of entries.entries()) {
    const base = chunks.find(({ chunkId }) => chunkId === chunks[index]?.baseId);
    const frame = pack.subarray(entry.offset, entry.offset + entry.storedLength);
    const raw = coder.decode(frame, entry, base && Buffer.from(base.hex, 'hex'));
    expect(Buffer.from(raw).toString('hex')).toBe(chunks[index]?.hex);
  }
});

test.skipIf(!hasLz4)('the lz4 command, where it is installed, verifies both packs and unpacks the LZ4 frames', () => {
  for (const { pack } of PACKS) execFileSync('lz4', ['-t'], { input: pack, stdio: ['pipe', 'ignore', 'ignore'] });
  const unpacked = execFileSync('lz4', ['-dc'], { input: bytesOf('pack.hex') });
  const [stored = Buffer.alloc(0), text = Buffer.alloc(0), planes = Buffer.alloc(0), , , delta = Buffer.alloc(0)] =
    vectors.chunks.map(({ hex }) => Buffer.from(hex, 'hex'));
  const planesAt = stored.length + text.length;
  const deltaAt = planesAt + 8 + planes.length;
  expect(unpacked.subarray(0, planesAt)).toEqual(Buffer.concat([stored, text]));
  expect(joinPlanes(unpacked.subarray(planesAt, deltaAt))).toEqual(planes);
  const difference = joinPlanes(unpacked.subarray(deltaAt));
  expect(difference.map((byte, index) => byte ^ (planes[index] ?? 0))).toEqual(delta);
});
