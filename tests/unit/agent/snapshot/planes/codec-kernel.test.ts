import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { planesLayout, type PlanesShape } from '@dumont/shared/format/planes.ts';
import { xxh32 } from '@dumont/shared/format/xxh32.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { CodecKernel } from '@dumont/agent/snapshot/planes/codec-kernel.ts';
import { joinPlanes, splitPlanes } from '../../../../world/format-reader.ts';
import { random32 } from '../../../../world/random32.ts';

const kernel = new CodecKernel();
const anyOrigin = fc.option(fc.integer({ min: 0, max: 255 }));
const anyShape: fc.Arbitrary<PlanesShape> = fc.record({
  leadBytes: fc.integer({ min: 0, max: 3 }),
  origins: fc.tuple(anyOrigin, anyOrigin, anyOrigin, anyOrigin),
});
/** Long enough for at least one group of words, whatever the lead. */
const anyChunk = fc.uint8Array({ minLength: 259, maxLength: 3_000, size: 'max' }).map((bytes) => Buffer.from(bytes));

/** The chunk, taken apart and put together as a decoder does it. */
function splitAndJoin(raw: Buffer, shape: PlanesShape): { readonly content: Buffer; readonly back: Buffer } {
  const layout = must(planesLayout(raw.length, shape), 'the chunk has a group of words');
  kernel.load(raw);
  const content = Buffer.from(kernel.split(raw.length, shape, layout));
  const target = kernel.content(raw.length);
  target.fill(0x55);
  content.copy(target, 0, 0, 8 + layout.restBytes);
  for (const [lane, origin] of shape.origins.entries()) {
    const at = 8 + layout.restBytes + lane * layout.words;
    const bytes = content.subarray(at, at + layout.words);
    if (origin === null) target.set(bytes, at);
    else {
      kernel.load(bytes);
      kernel.joinPlanes(at, layout.words, origin);
    }
  }
  return { content, back: Buffer.from(kernel.join(shape.leadBytes, layout)) };
}

test('the WebAssembly transform gives what the plain one gives, and both go back', () => {
  fc.assert(
    fc.property(anyChunk, anyShape, (raw, shape) => {
      const { content, back } = splitAndJoin(raw, shape);
      expect(content.equals(splitPlanes(raw, shape.leadBytes, shape.origins))).toBe(true);
      expect(joinPlanes(content).equals(raw)).toBe(true);
      expect(back.equals(raw)).toBe(true);
    }),
    { numRuns: 500 },
  );
});

test('a chunk of the largest size is taken apart and put together', () => {
  const largest = Buffer.alloc(4 * 1024 * 1024, crypto.getRandomValues(Buffer.alloc(65_536)));
  const { back } = splitAndJoin(largest, { leadBytes: 1, origins: [null, 7, 255, 0] });
  expect(Buffer.compare(back, largest)).toBe(0);
});

test('a difference is made and undone by the same bytes', () => {
  fc.assert(
    fc.property(anyChunk, fc.nat(), (raw, seed) => {
      const next = random32(seed);
      const base = Buffer.from(raw.map(() => next()));
      kernel.load(raw);
      kernel.xorWith(base);
      expect(kernel.raw(raw.length).equals(Buffer.from(raw.map((byte, at) => byte ^ (base[at] ?? 0))))).toBe(true);
      kernel.xorWith(base);
      expect(kernel.raw(raw.length).equals(raw)).toBe(true);
    }),
    { numRuns: 100 },
  );
});

test('the checksum in WebAssembly is the one in TypeScript', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      expect(kernel.xxh32(kernel.load(bytes))).toBe(xxh32(bytes));
    }),
  );
});

test('bytes are counted by their position among four, each with the highest bit of the byte before it', () => {
  const sample = kernel.sample([Buffer.from([0x80, 0x01, 0xff, 0x00, 0x80, 0x00])]);
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
