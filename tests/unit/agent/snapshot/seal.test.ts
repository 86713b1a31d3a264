import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { deriveSecrets } from '@dumont/agent/secrets/master-key.ts';
import { chunkIdOf, openFrame, sealFrame } from '@dumont/agent/snapshot/seal.ts';

const secrets = deriveSecrets(Buffer.alloc(32, 1));
const others = deriveSecrets(Buffer.alloc(32, 2));
const corrupt = expect.objectContaining({ code: 'CORRUPT' }) as Error;

test('any frame comes back from its seal, for its own key and place only', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 5_000 }), fc.uint8Array({ maxLength: 40 }), (frame, place) => {
      const sealed = sealFrame(frame, secrets, place);
      expect(Buffer.compare(openFrame(sealed, secrets, place), frame)).toBe(0);
      expect(() => openFrame(sealed, others, place)).toThrow(corrupt);
      expect(() => openFrame(sealed, secrets, Buffer.concat([place, Buffer.alloc(1)]))).toThrow(corrupt);
      expect(() => openFrame(sealed, null, place)).toThrow(corrupt);
      expect(() => openFrame(frame, secrets, place)).toThrow(corrupt);
    }),
  );
});

test('a seal with any bit changed, or cut short, is refused', () => {
  const sealed = sealFrame(Buffer.from('a frame'), secrets);
  for (let at = 0; at < sealed.length * 8; at += 1) {
    const changed = Buffer.from(sealed);
    changed.writeUInt8(changed.readUInt8(at >> 3) ^ (1 << (at & 7)), at >> 3);
    expect(() => openFrame(changed, secrets)).toThrow(corrupt);
  }
  for (let length = 0; length < sealed.length; length += 1) {
    expect(() => openFrame(sealed.subarray(0, length), secrets)).toThrow(corrupt);
  }
});

test('the same frame is never sealed to the same bytes, and ids tell stores apart', () => {
  const frame = Buffer.from('the same frame');
  const seals = Array.from({ length: 100 }, () => Buffer.from(sealFrame(frame, secrets)).toString('hex'));
  expect(new Set(seals).size).toBe(100);
  const ids = [null, secrets, others].map((one) => chunkIdOf(frame, one));
  expect(new Set(ids).size).toBe(3);
  expect(chunkIdOf(frame, deriveSecrets(Buffer.alloc(32, 1)))).toBe(ids[1]);
});
