import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { encodePlanesHeader, planesLayout, type PlanesShape } from '@dumont/shared/format/planes.ts';
import { xxh32 } from '@dumont/shared/format/xxh32.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { PlanesKernel } from '@dumont/agent/snapshot/planes/planes-kernel.ts';
import { joinPlanes, splitPlanes } from '../../../../world/format-reader.ts';

const kernel = new PlanesKernel();
const anyOrigin = fc.option(fc.integer({ min: 0, max: 255 }));
const anyShape: fc.Arbitrary<PlanesShape> = fc.record({
  leadBytes: fc.integer({ min: 0, max: 3 }),
  origins: fc.tuple(anyOrigin, anyOrigin, anyOrigin, anyOrigin),
});
/** Long enough for at least one group of words, whatever the lead. */
const anyChunk = fc.uint8Array({ minLength: 259, maxLength: 3_000, size: 'max' }).map((bytes) => Buffer.from(bytes));

test('the WebAssembly transform gives what the plain one gives, and both go back', () => {
  fc.assert(
    fc.property(anyChunk, anyShape, (raw, shape) => {
      const layout = must(planesLayout(raw.length, shape), 'the chunk has a group of words');
      const content = Buffer.from(kernel.split(raw, encodePlanesHeader(shape), { shape, layout }));
      expect(content.equals(splitPlanes(raw, shape.leadBytes, shape.origins))).toBe(true);
      expect(joinPlanes(content).equals(raw)).toBe(true);
      kernel.content(raw.length).set(content);
      expect(kernel.join(shape, layout).equals(raw)).toBe(true);
    }),
    { numRuns: 500 },
  );
});

test('a chunk of the largest size is taken apart and put together', () => {
  const raw = crypto.getRandomValues(Buffer.alloc(65_536));
  const largest = Buffer.alloc(4 * 1024 * 1024, raw);
  const shape: PlanesShape = { leadBytes: 1, origins: [null, 7, 255, 0] };
  const layout = must(planesLayout(largest.length, shape), 'the chunk has a group of words');
  const content = Buffer.from(kernel.split(largest, encodePlanesHeader(shape), { shape, layout }));
  kernel.content(largest.length).set(content);
  expect(Buffer.compare(kernel.join(shape, layout), largest)).toBe(0);
});

test('the checksum in WebAssembly is the one in TypeScript', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      expect(kernel.xxh32(kernel.load([bytes]))).toBe(xxh32(bytes));
    }),
  );
});

test('bytes are counted by their position among four, each with the highest bit of the byte before it', () => {
  const sample = kernel.load([Buffer.from([0x80, 0x01, 0xff, 0x00, 0x80, 0x00])]);
  const counts = kernel.countLanes(sample).map((lane) => [...lane.entries()].filter(([, count]) => count > 0));
  expect(counts).toEqual([
    [[0x00, 2]],
    [
      [0x01, 1],
      [0x03, 1],
    ],
    [[0xfe, 1]],
    [[0x01, 1]],
  ]);
});
