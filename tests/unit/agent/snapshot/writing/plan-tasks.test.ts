import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MAX_CHUNK_BYTES } from '@dumont/agent/snapshot/cdc/cut-window.ts';
import type { Segment } from '@dumont/agent/snapshot/chunker.ts';
import { planBatches, planParts } from '@dumont/agent/snapshot/writing/plan-tasks.ts';

const MIB = 1_048_576;

test('every file is in one batch, large ones alone and first, small ones in their order', () => {
  const anySize = fc.oneof(fc.nat(100_000), fc.nat(40 * MIB));
  fc.assert(
    fc.property(fc.array(anySize, { maxLength: 900 }), (sizes) => {
      const files = sizes.map((sizeBytes, row) => ({ sizeBytes, row }));
      const batches = planBatches(files);
      expect(batches.flat().toSorted((a, b) => a.row - b.row)).toEqual(files);
      const large = batches.filter(([first]) => (first?.sizeBytes ?? 0) > 8 * MIB);
      expect(large).toEqual(batches.slice(0, large.length));
      expect(large.every((batch) => batch.length === 1)).toBe(true);
      const small = batches.slice(large.length);
      expect(small.flat()).toEqual(files.filter(({ sizeBytes }) => sizeBytes <= 8 * MIB));
      for (const batch of small) {
        expect(batch.length).toBeLessThanOrEqual(256);
        expect(batch.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)).toBeLessThanOrEqual(16 * MIB);
      }
    }),
    { numRuns: 50 },
  );
});

test('parts cover the segments in order and cut a fixed one only where its chunks end', () => {
  const anySegment = fc.record({ length: fc.integer({ min: 1, max: 300 * MIB }), isFixed: fc.boolean() });
  fc.assert(
    fc.property(fc.array(anySegment, { minLength: 1, maxLength: 20 }), (shapes) => {
      let offset = 0;
      const segments = shapes.map(({ length, isFixed }): Segment => {
        offset += length;
        return { offset: offset - length, length, cut: isFixed ? 'fixed' : 'content', elementBytes: 2 };
      });
      const parts = planParts(segments);
      const pieces = parts.flat();
      expect(pieces.map((piece) => piece.offset)).toEqual([
        0,
        ...pieces.slice(0, -1).map((piece) => piece.offset + piece.length),
      ]);
      expect((pieces.at(-1)?.offset ?? 0) + (pieces.at(-1)?.length ?? 0)).toBe(offset);
      for (const piece of pieces) {
        const whole = segments.find((one) => one.offset <= piece.offset && piece.offset < one.offset + one.length);
        expect(piece).toMatchObject({ cut: whole?.cut, elementBytes: 2 });
        expect((piece.offset - (whole?.offset ?? 0)) % MAX_CHUNK_BYTES).toBe(0);
        if (piece.cut === 'content') expect(piece.length).toBe(whole?.length);
      }
      for (const part of parts.slice(0, -1)) {
        expect(part.reduce((sum, { length }) => sum + length, 0)).toBeGreaterThanOrEqual(64 * MIB);
      }
    }),
    { numRuns: 100 },
  );
});
