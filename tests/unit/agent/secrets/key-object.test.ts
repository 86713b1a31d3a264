import { createHmac } from 'node:crypto';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { isDumontError } from '@dumont/shared/util/errors.ts';
import { parseKeyObject, unwrapMaster, wrapMaster } from '@dumont/agent/secrets/key-object.ts';
import { deriveSecrets } from '@dumont/agent/secrets/master-key.ts';
import { QUICK_KEY } from '../../../world/quick-key.ts';

const KEY_ID = '0123456789abcdef0123456789abcdef';
const master = Buffer.alloc(32, 7);
const opened = { master, secrets: deriveSecrets(master) };

function wrap(password: string, keyId = KEY_ID) {
  return wrapMaster(keyId, opened, { password, key: QUICK_KEY });
}

/** HKDF of RFC 5869 for one block, by its definition. */
function hkdf(label: string): Buffer {
  const extracted = createHmac('sha256', Buffer.alloc(32)).update(master).digest();
  return createHmac('sha256', extracted)
    .update(Buffer.concat([Buffer.from(label), Buffer.from([1])]))
    .digest();
}

test('the keys of a master are what the format page says', () => {
  const { masterId, idKey, frameKey } = deriveSecrets(master);
  expect(masterId).toBe(hkdf('dumont 1 master id').toString('hex', 0, 16));
  expect(Buffer.from(idKey)).toEqual(hkdf('dumont 1 chunk ids'));
  expect(Buffer.from(frameKey)).toEqual(hkdf('dumont 1 frames'));
});

test('a master comes back with its password, however accents are composed, and with no other', async () => {
  const object = parseKeyObject('keys/x', await wrap('caf\u00e9'));
  expect(object).toMatchObject({ masterId: opened.secrets.masterId, label: 'test', createdAtMs: 1_700_000_000_000 });
  expect((await unwrapMaster(KEY_ID, object, 'cafe\u0301'))?.secrets).toEqual(opened.secrets);
  for (const wrong of ['cafe', 'Caf\u00e9', 'caf\u00e9 ', ''])
    expect(await unwrapMaster(KEY_ID, object, wrong)).toBe(null);
});

test('a new key object asks for 128 MiB of work unless told otherwise', async () => {
  const bytes = await wrapMaster(KEY_ID, opened, { password: 'p', key: { createdAtMs: 0, label: '' } });
  expect(parseKeyObject('keys/x', bytes).kdf).toMatchObject({ name: 'scrypt', n: 2 ** 17, r: 8, p: 1 });
});

test('no field of a key object can be changed, and it opens under its own id only', async () => {
  const bytes = await wrap('right');
  const object = parseKeyObject('keys/x', bytes);
  expect(await unwrapMaster(KEY_ID.replace('0', 'f'), object, 'right')).toBe(null);
  expect(await unwrapMaster(KEY_ID, { ...object, label: 'other' }, 'right')).toBe(null);
  expect(await unwrapMaster(KEY_ID, { ...object, createdAtMs: 1 }, 'right')).toBe(null);
  expect(await unwrapMaster(KEY_ID, { ...object, masterId: KEY_ID }, 'right')).toBe(null);
});

test('a key object cut short or with any byte changed is refused, or does not open, and nothing else happens', async () => {
  const bytes = Buffer.from(await wrap('right'));
  const damaged = fc.oneof(
    fc.nat(bytes.length - 1).map((length) => bytes.subarray(0, length)),
    fc.tuple(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 })).map(([at, change]) => {
      const copy = Buffer.from(bytes);
      copy.writeUInt8(copy.readUInt8(at) ^ change, at);
      return copy;
    }),
  );
  await fc.assert(
    fc.asyncProperty(damaged, async (stored) => {
      try {
        const back = await unwrapMaster(KEY_ID, parseKeyObject('keys/x', stored), 'right');
        // A change within the last bits of a base64 text, or of a field's name into white space, changes nothing.
        if (back !== null) expect(back.secrets).toEqual(opened.secrets);
      } catch (error) {
        expect(isDumontError(error, 'CORRUPT') || isDumontError(error, 'UNSUPPORTED')).toBe(true);
      }
    }),
    { numRuns: 200 },
  );
});

test('work beyond 256 MiB, which anybody who can write to the store could ask for, is refused unseen', async () => {
  const text = Buffer.from(await wrap('p')).toString();
  for (const n of ['1073741824', '1025', '2', '-1024', '1e99']) {
    const hostile = Buffer.from(text.replace('"n":1024', `"n":${n}`));
    expect(() => parseKeyObject('keys/x', hostile)).toThrow(expect.objectContaining({ code: 'CORRUPT' }) as Error);
  }
});
