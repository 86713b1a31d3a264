import fc from 'fast-check';
import { FrameTracker, serviceRestartFrame } from '@dumont/control-plane/gateway/websocket-frames.ts';
import { expect, test } from 'vitest';

test('frames of every size, cut anywhere, are between frames exactly at their ends', () => {
  const frame = fc.record({
    size: fc.oneof(fc.integer({ min: 0, max: 130 }), fc.constantFrom(65_535, 65_536, 70_000)),
    masked: fc.boolean(),
  });
  fc.assert(
    fc.property(
      fc.array(frame, { maxLength: 6 }),
      fc.array(fc.integer({ min: 1, max: 9_000 }), { minLength: 1 }),
      (frames, cuts) => {
        const encoded = frames.map(encode);
        const bytes = Buffer.concat(encoded);
        const ends = new Set([0]);
        for (const each of encoded) ends.add(Math.max(...ends) + each.length);
        const tracker = new FrameTracker();
        for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
          const next = Math.min(bytes.length, at + (cuts[turn % cuts.length] ?? 1));
          tracker.push(bytes.subarray(at, next));
          at = next;
          expect(tracker.isBetweenFrames).toBe(ends.has(at));
        }
      },
    ),
  );
});

test('the farewell is a whole close frame with code 1012', () => {
  const frame = Buffer.from(serviceRestartFrame());
  expect([frame[0], frame[1], frame.readUInt16BE(2)]).toEqual([0x88, frame.length - 2, 1012]);
  const tracker = new FrameTracker();
  tracker.push(frame);
  expect(tracker.isBetweenFrames).toBe(true);
});

function encode({ size, masked }: { readonly size: number; readonly masked: boolean }): Buffer {
  const mask = masked ? 0x80 : 0;
  const head = Buffer.alloc(size < 126 ? 2 : size < 65_536 ? 4 : 10);
  head[0] = 0x82;
  head[1] = mask | (size < 126 ? size : size < 65_536 ? 126 : 127);
  if (size >= 65_536) head.writeBigUInt64BE(BigInt(size), 2);
  else if (size >= 126) head.writeUInt16BE(size, 2);
  return Buffer.concat([head, Buffer.alloc((masked ? 4 : 0) + size)]);
}
