import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { CODECS, decodePackIndex, decodePackTrailer, PACK_TRAILER_BYTES } from '@dumont/shared/format/pack.ts';
import { hashHex } from '@dumont/agent/snapshot/chunk-codec.ts';
import { ChunkCoder } from '@dumont/agent/snapshot/planes/chunk-coder.ts';
import { joinPlanes, readPack } from '../../../world/format-reader.ts';

/** The vectors were written once and stay: a change that no longer reads them needs a new format version. */
interface Vectors {
  readonly packId: string;
  readonly chunks: readonly {
    readonly chunkId: string;
    readonly codec: string;
    readonly offset: number;
    readonly storedLength: number;
    readonly hex: string;
  }[];
}

const folder = new URL('../../../vectors/format/', import.meta.url);
const pack = Buffer.from(readFileSync(new URL('pack.hex', folder), 'utf8').replaceAll('\n', ''), 'hex');
const vectors = JSON.parse(readFileSync(new URL('chunks.json', folder), 'utf8')) as Vectors;
const hasLz4 = spawnSync('lz4', ['--version']).status === 0;

test('the pack of the vectors is read by a reader written from the document', () => {
  expect(hashHex(pack)).toBe(vectors.packId);
  const read = readPack(pack).map(({ chunkId, codec, raw }) => ({
    chunkId,
    codec: CODECS[codec],
    hex: raw.toString('hex'),
  }));
  expect(read).toEqual(vectors.chunks.map(({ chunkId, codec, hex }) => ({ chunkId, codec, hex })));
  for (const { chunkId, raw } of readPack(pack)) expect(hashHex(raw)).toBe(chunkId);
});

test('the pack of the vectors is read by the engine', () => {
  const { offset, length } = decodePackTrailer(pack.subarray(-PACK_TRAILER_BYTES), pack.length);
  const entries = decodePackIndex(pack.subarray(offset, offset + length));
  const coder = new ChunkCoder();
  const read = entries.map((entry) => {
    const frame = pack.subarray(entry.offset, entry.offset + entry.storedLength);
    const { chunkId, codec, storedLength } = entry;
    return {
      chunkId,
      codec,
      offset: entry.offset,
      storedLength,
      hex: Buffer.from(coder.decode(frame, entry)).toString('hex'),
    };
  });
  expect(read).toEqual(vectors.chunks);
});

test.skipIf(!hasLz4)('the lz4 command, where it is installed, verifies and unpacks the pack of the vectors', () => {
  execFileSync('lz4', ['-t'], { input: pack, stdio: ['pipe', 'ignore', 'ignore'] });
  const unpacked = execFileSync('lz4', ['-dc'], { input: pack });
  const [stored, text, tensor] = vectors.chunks.map(({ hex }) => Buffer.from(hex, 'hex'));
  const planesAt = (stored?.length ?? 0) + (text?.length ?? 0);
  expect(unpacked.subarray(0, planesAt)).toEqual(Buffer.concat([stored ?? Buffer.alloc(0), text ?? Buffer.alloc(0)]));
  expect(joinPlanes(unpacked.subarray(planesAt))).toEqual(tensor);
});
