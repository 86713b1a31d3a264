import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CutWindow } from '@dumont/agent/snapshot/cdc/cut-window.ts';
import { findTensors, planSegments } from '@dumont/agent/snapshot/tensor-layout.ts';
import { chunksOf, memorySource, newChunks, seededBytes, totalBytes } from '../../../world/chunking.ts';
import { ggufFile, safetensorsFile, safetensorsHeader, torchFile, u64 } from '../../../world/tensor-files.ts';
import { referenceCuts } from '../../../world/reference-cut.ts';

const MIB = 1_048_576;

/** Large and small tensors by turns, as the layers of a model have them. */
function layers(count: number, seed = 0): readonly { readonly name: string; readonly bytes: Buffer }[] {
  return Array.from({ length: count }, (_, n) => [
    { name: `layers.${n}.weight`, bytes: seededBytes(5 * MIB, seed + 2 * n) },
    { name: `layers.${n}.norm`, bytes: seededBytes(4_096, seed + 2 * n + 1) },
  ]).flat();
}

/** Byte ranges of the file's chunks that lie where the given bytes do. */
function chunksWithin(file: Buffer, part: Buffer) {
  const start = file.indexOf(part);
  return chunksOf(file).filter(({ offset }) => offset >= start && offset < start + part.length);
}

const formats = {
  safetensors: (tensors: ReturnType<typeof layers>) => safetensorsFile(tensors),
  torch: (tensors: ReturnType<typeof layers>) => torchFile(tensors.map(({ bytes }) => bytes)),
  'torch zip64': (tensors: ReturnType<typeof layers>) =>
    torchFile(
      tensors.map(({ bytes }) => bytes),
      { zip64: true },
    ),
  gguf: (tensors: ReturnType<typeof layers>) => ggufFile(tensors),
};

describe.each(Object.entries(formats))('%s', (format, write) => {
  test('a large tensor is cut at its start, then every 4 MiB', async () => {
    const tensors = layers(3);
    const file = write(tensors);
    for (const { bytes } of tensors.filter(({ bytes }) => bytes.length > MIB)) {
      const [first, second] = chunksWithin(file, bytes);
      expect(first).toMatchObject({ offset: file.indexOf(bytes), length: 4 * MIB });
      expect(second).toMatchObject({ offset: file.indexOf(bytes) + 4 * MIB, length: MIB });
      if (!format.startsWith('torch')) expect([first?.elementBytes, second?.elementBytes]).toEqual([2, 2]);
    }
    const chunks = chunksOf(file);
    expect(totalBytes(chunks)).toBe(file.length);
    expect(chunks.length).toBeLessThanOrEqual(3 * 3 + 2);
  });

  test('a tensor put between others costs itself, not what it moves', async () => {
    const tensors = layers(4);
    const added = { name: 'added', bytes: seededBytes(3 * MIB, 99) };
    const before = chunksOf(write(tensors));
    const after = chunksOf(write([...tensors.slice(0, 4), added, ...tensors.slice(4)]));
    expect(totalBytes(newChunks(before, after))).toBeLessThan(added.bytes.length + 100_000);
  });

  test('a thousand small tensors make chunks of about 1 MiB', async () => {
    const tensors = Array.from({ length: 1_000 }, (_, n) => ({ name: `t${n}`, bytes: seededBytes(6_000, n) }));
    const file = write(tensors);
    const chunks = chunksOf(file);
    expect(totalBytes(chunks)).toBe(file.length);
    expect(chunks.length).toBeLessThanOrEqual(9);
    expect(Math.max(...chunks.map(({ length }) => length))).toBeLessThanOrEqual(MIB);
  });

  test('tensors of which half changed cost that half', async () => {
    const before = chunksOf(write(layers(4)));
    const after = chunksOf(write([...layers(2), ...layers(4, 50).slice(4)]));
    expect(totalBytes(newChunks(before, after))).toBeLessThan(10 * MIB + 100_000);
  });

  test('damage to the header never throws, reads little and leaves a cover without gaps', async () => {
    const file = write(layers(1));
    const headBytes = 3_000;
    const anyDamage = fc.array(
      fc.tuple(fc.oneof(fc.nat({ max: headBytes }), fc.integer({ min: -900, max: -1 })), fc.nat({ max: 255 })),
      { minLength: 1, maxLength: 8 },
    );
    const window = new CutWindow();
    await fc.assert(
      fc.asyncProperty(anyDamage, fc.integer({ min: 300_000, max: file.length }), async (damage, size) => {
        const damaged = Buffer.from(file.subarray(0, size));
        for (const [at, byte] of damage) damaged[at < 0 ? size + at : at] = byte;
        expectCover(damaged, window);
      }),
      { numRuns: 150 },
    );
  });
});

/** Whatever the bytes: a plan exists, covers them, and making it read at most 64 MiB. */
function expectCover(bytes: Buffer, window: CutWindow): void {
  const source = memorySource(bytes);
  const tensors = findTensors(source, window.bytes);
  expect(source.readBytes).toBeLessThanOrEqual(64 * MIB);
  let at = 0;
  for (const { offset, length } of planSegments(bytes.length, tensors)) {
    expect(offset).toBe(at);
    expect(length).toBeGreaterThan(0);
    at += length;
  }
  expect(at).toBe(bytes.length);
}

test('any bytes behind a known beginning get a plan', async () => {
  const window = new CutWindow();
  const beginnings = [
    Buffer.from('GGUF\x03\0\0\0', 'latin1'),
    Buffer.from('PK\x03\x04'),
    safetensorsHeader('{"a":{}}'),
  ];
  const anyNoise = fc.uint8Array({ maxLength: 200 });
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...beginnings), anyNoise, anyNoise, async (beginning, noise, end) => {
      expectCover(Buffer.concat([beginning, noise, Buffer.alloc(300_000), end]), window);
    }),
    { numRuns: 300 },
  );
});

test('a longer safetensors header moves every tensor and changes no chunk of theirs', async () => {
  const before = chunksOf(safetensorsFile(layers(4)));
  const after = chunksOf(safetensorsFile(layers(4), 'thirty more bytes of metadata.'));
  expect(newChunks(before, after)).toMatchObject([{ offset: 0 }]);
});

test('a safetensors file that is still being written is cut where the finished one will be', async () => {
  const file = safetensorsFile(layers(4));
  const [half, whole] = [chunksOf(file.subarray(0, 12 * MIB)), chunksOf(file)];
  expect(newChunks(whole, half).length).toBeLessThanOrEqual(1);
});

test('small tensors of one type keep the size of their numbers, of two types they do not', async () => {
  const small = Array.from({ length: 300 }, (_, n) => ({ name: `t${n}`, bytes: seededBytes(4_000, n) }));
  for (const [dtype, bytes] of [
    ['F64', 8],
    ['F32', 4],
    ['F16', 2],
    ['I8', 1],
  ] as const) {
    const chunks = chunksOf(safetensorsFile(small, '', dtype, bytes));
    expect(chunks.slice(1).every(({ elementBytes }) => elementBytes === bytes)).toBe(true);
  }
  const mixed = safetensorsFile(small).toString('latin1').replace('"BF16","shape":[1,2000]', '"F32","shape":[1,1000] ');
  const chunks = chunksOf(Buffer.from(mixed, 'latin1'));
  expect(chunks.slice(1, 2)).toMatchObject([{ elementBytes: undefined }]);
});

describe('a file whose header is not believed is cut by its content', () => {
  const data = seededBytes(6 * MIB, 1);
  const header = (json: string) => Buffer.concat([safetensorsHeader(json), data]);
  const tensor = (begin: number, end: number) => ({ dtype: 'U8', shape: [end - begin], data_offsets: [begin, end] });
  const gguf = (tensors: number, pairs: number) =>
    Buffer.concat([Buffer.from('GGUF\x03\0\0\0', 'latin1'), u64(tensors), u64(pairs), data]);
  const torch = torchFile([data]);
  const files: Readonly<Record<string, Buffer>> = {
    'a header longer than the file': Buffer.concat([u64(2n ** 63n), Buffer.from('{"a":1}'), data]),
    'a header as long as the file': Buffer.concat([u64(data.length), Buffer.from('{'), data]),
    'overlapping tensors': header(JSON.stringify({ a: tensor(0, MIB), b: tensor(MIB - 1, 2 * MIB) })),
    'a tensor that ends before it begins': header(JSON.stringify({ a: tensor(MIB, 0) })),
    'a tensor of another length than its shape says': header(
      JSON.stringify({ a: { dtype: 'F32', shape: [7], data_offsets: [0, MIB] } }),
    ),
    'an offset past all numbers': header('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,99999999999999999999]}}'),
    'a negative offset': header('{"a":{"dtype":"X","shape":[],"data_offsets":[-1,5]}}'),
    'deep nesting': header(`{"a":${'['.repeat(1_000_000)}`),
    'more tensors than any model has': header(`{${'"":{"dtype":"","shape":[],"data_offsets":[0,0]},'.repeat(120_000)}`),
    'text behind the JSON': header('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}} x'),
    'invalid UTF-8 for a key': header('{"\xff\xfe":1}'),
    'an unfinished string': header('{"a'),
    'ten million GGUF tensors': gguf(10_000_000, 0),
    'GGUF metadata without end': gguf(1, 60_000),
    'a GGUF array without end': Buffer.concat([
      gguf(1, 1).subarray(0, 24),
      u64(1),
      Buffer.from('k\x09\0\0\0\x08\0\0\0', 'latin1'),
      u64(2n ** 60n),
      Buffer.alloc(6 * MIB),
    ]),
    'a zip without a directory': torch.subarray(0, -100),
    'a zip that is no checkpoint': Buffer.from(torch.toString('latin1').replaceAll('data.pkl', 'data.txt'), 'latin1'),
    'a zip whose directory lies elsewhere': Buffer.concat([
      torch.subarray(0, -6),
      Buffer.from([255, 255, 255, 127, 0, 0]),
    ]),
  };
  test.each(Object.entries(files))('%s', async (_, bytes) => {
    const source = memorySource(bytes);
    expect(findTensors(source, new CutWindow().bytes)).toBeNull();
    expect(source.readBytes).toBeLessThanOrEqual(9 * MIB);
    const ends = chunksOf(bytes).map(({ offset, length }) => offset + length);
    expect(ends).toEqual(referenceCuts(bytes));
  });
});

test('any tensors anywhere are planned without gaps, in parts that are worth a chunk', () => {
  const anyPart = fc.tuple(fc.nat({ max: 2 * MIB }), fc.integer({ min: 1, max: 9 * MIB }));
  fc.assert(
    fc.property(fc.array(anyPart, { maxLength: 60 }), fc.nat({ max: 2 * MIB }), (parts, restBytes) => {
      let at = 0;
      const tensors = parts.map(([gap, length]) => {
        const span = { offset: at + gap, length };
        at = span.offset + length;
        return span;
      });
      const sizeBytes = at + restBytes;
      const segments = [...planSegments(sizeBytes, tensors)];
      expect(segments.reduce((sum, { length }) => sum + length, 0)).toBe(sizeBytes);
      const large = tensors.filter(({ length }) => length > MIB);
      expect(segments).toEqual(expect.arrayContaining(large.map((span) => expect.objectContaining(span))));
      for (const [index, next] of segments.slice(1).entries()) {
        const segment = segments[index];
        if (segment === undefined || segment.offset === 0) continue;
        expect(segment.length + next.length).toBeGreaterThan(MIB);
      }
    }),
  );
});
