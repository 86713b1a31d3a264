import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { packNode, stateOfPacked, typeOfPacked, unpackNode } from '@dumont/agent/sync/packed-node.ts';

const id = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString('hex'));
const count = fc.integer({ min: 0, max: 2 ** 50 });
const meta = fc.record(
  {
    mode: fc.integer({ min: 0, max: 0o7777 }),
    uid: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    gid: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    mtimeNs: fc.oneof(
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String),
      fc.stringMatching(/^-?\d{1,19}$/),
    ),
    xattrs: fc.array(fc.tuple(fc.string({ minLength: 1 }), fc.base64String()), { maxLength: 3 }),
  },
  { requiredKeys: ['mode', 'uid', 'gid', 'mtimeNs'] },
);
const content = fc.record({
  size: count,
  chunks: fc.array(fc.tuple(id, fc.integer({ min: 1, max: 2 ** 22 })), { maxLength: 20 }),
  holes: fc.array(fc.tuple(count, count), { maxLength: 3 }),
});
const entry = fc.oneof(
  fc.record({ type: fc.constant('dir' as const), meta }),
  fc.record({ type: fc.constant('symlink' as const), meta, target: fc.string({ unit: 'grapheme', minLength: 1 }) }),
  fc.record({ type: fc.constant('file' as const), meta, content, group: count }),
);
const state = fc.record({
  size: fc.bigInt({ min: 0n, max: 2n ** 63n }),
  mtimeNs: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  ctimeNs: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  ino: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  dev: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  settled: fc.boolean(),
});

test('what is unpacked is what was packed', () => {
  fc.assert(
    fc.property(fc.record({ entry, state: fc.option(state) }), (node) => {
      const packed = packNode(node);
      expect(unpackNode(packed)).toEqual(node);
      expect(typeOfPacked(packed)).toBe(node.entry.type);
      expect(stateOfPacked(packed)).toEqual(node.state);
    }),
  );
});
