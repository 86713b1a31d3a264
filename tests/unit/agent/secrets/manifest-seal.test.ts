import { expect, test } from 'vitest';
import { deriveSecrets } from '@dumont/agent/secrets/master-key.ts';
import { MANIFEST_MASTER_BYTES, masterIdOf, openManifest, sealManifest } from '@dumont/agent/secrets/manifest-seal.ts';

const secrets = deriveSecrets(Buffer.alloc(32, 1));
const others = deriveSecrets(Buffer.alloc(32, 2));
const manifest = Buffer.from('a manifest that nobody may read');
const KEY = 'manifests/ws_1/0-1-sn_1-w';
const sealed = sealManifest(manifest, KEY, secrets);

function code(expected: string): Error {
  return expect.objectContaining({ code: expected }) as Error;
}

test('a manifest comes back under its own key, and names its master in clear', () => {
  expect(Buffer.from(openManifest(sealed, KEY, secrets))).toEqual(manifest);
  expect(masterIdOf(sealed.subarray(0, MANIFEST_MASTER_BYTES))).toBe(secrets.masterId);
  expect(Buffer.from(sealed).includes(manifest.subarray(0, 8))).toBe(false);
});

test('without secrets it is left as it is', () => {
  expect(sealManifest(manifest, KEY, null)).toBe(manifest);
  expect(openManifest(manifest, KEY, null)).toBe(manifest);
  expect(masterIdOf(manifest)).toBe(null);
});

test('it does not open without secrets, with another password, under another key, or when it is in clear', () => {
  expect(() => openManifest(sealed, KEY, null)).toThrow(code('UNAUTHORIZED'));
  expect(() => openManifest(sealed, KEY, others)).toThrow(code('UNAUTHORIZED'));
  expect(() => openManifest(sealed, `${KEY}2`, secrets)).toThrow(code('CORRUPT'));
  expect(() => openManifest(manifest, KEY, secrets)).toThrow(code('CORRUPT'));
});

test('no byte of it can be changed, and no part of it left away', () => {
  for (let at = 0; at < sealed.length; at += 1) {
    const changed = Buffer.from(sealed);
    changed.writeUInt8(changed.readUInt8(at) ^ 1, at);
    expect(() => openManifest(changed, KEY, secrets)).toThrow(
      code(at >= MANIFEST_MASTER_BYTES - 16 && at < MANIFEST_MASTER_BYTES ? 'UNAUTHORIZED' : 'CORRUPT'),
    );
    expect(() => openManifest(sealed.subarray(0, at), KEY, secrets)).toThrow(code('CORRUPT'));
  }
});
