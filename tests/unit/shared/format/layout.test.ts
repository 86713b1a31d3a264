import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { manifestKey, manifestPrefix, packKey, parseManifestKey } from '@dumont/shared/format/layout.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { assertKey } from '@dumont/agent/storage/object-store.ts';

const anyName = fc.record({
  epoch: fc.integer({ min: 0, max: 9_999_999_999 }),
  seq: fc.integer({ min: 1, max: 999_999_999_999 }),
  writerId: fc.stringMatching(/^[a-z0-9_]{1,64}$/),
});

test('a manifest key says what it was made of and is a key of every store', () => {
  fc.assert(
    fc.property(anyName, (parts) => {
      const name = { ...parts, workspaceId: newId('workspace'), snapshotId: newId('snapshot') };
      const key = manifestKey(name);
      expect(parseManifestKey(key)).toEqual(name);
      expect(key.startsWith(manifestPrefix(name.workspaceId))).toBe(true);
      assertKey(key);
    }),
  );
});

test('manifest keys sort by epoch, then by sequence number', () => {
  fc.assert(
    fc.property(anyName, anyName, (a, b) => {
      fc.pre(a.epoch !== b.epoch || a.seq !== b.seq);
      const workspaceId = newId('workspace');
      const keyOf = (name: typeof a) => manifestKey({ ...name, workspaceId, snapshotId: newId('snapshot') });
      expect(keyOf(a) < keyOf(b)).toBe(a.epoch < b.epoch || (a.epoch === b.epoch && a.seq < b.seq));
    }),
  );
});

test('nothing that is not an id becomes a pack key', () => {
  expect(() => packKey('../../etc/passwd')).toThrow('32 hexadecimal digits');
  expect(parseManifestKey('manifests/ws_x/1-2-3-4')).toBeNull();
});
