import { createCipheriv, createDecipheriv, randomBytes, scrypt, type ScryptOptions } from 'node:crypto';
import { FORMAT_VERSION } from '@dumont/shared/format/layout.ts';
import { wallMsSchema } from '@dumont/shared/protocol/primitives.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { describeIssues } from '@dumont/shared/util/zod-issues.ts';
import { tryParseJson } from '@dumont/shared/util/try-json.ts';
import { z } from 'zod';
import type { StoreSecrets } from '../snapshot/seal.ts';
import { deriveSecrets, MASTER_KEY_BYTES } from './master-key.ts';

/** Work of guessing a password, log2 of scrypt's N: 128 MiB and about half a second a try. */
const SCRYPT_LOG2_N = 17;
/** What a key object may ask for: from what tests use to 256 MiB, since anybody who can write to the store chooses it. */
const [MIN_LOG2_N, MAX_LOG2_N] = [10, 18];
const SCRYPT_R = 8;
const SCRYPT_P = 1;
/** scrypt takes 128 * N * r bytes; the library wants the limit above. */
const SCRYPT_MAX_MEMORY_BYTES = 2 * 128 * 2 ** MAX_LOG2_N * SCRYPT_R;
const SALT_BYTES = 32;
const KEK_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
export const MAX_LABEL_LENGTH = 64;

const hexIdSchema = z.string().regex(/^[0-9a-f]{32}$/);

/** Bytes in base64, exactly so many. */
function bytesSchema(length: number) {
  return z
    .base64()
    .max(Math.ceil(length / 3) * 4)
    .transform((text) => Buffer.from(text, 'base64'))
    .refine((bytes) => bytes.length === length, `must be ${length} bytes`);
}

const keyObjectSchema = z.object({
  formatVersion: z.literal(FORMAT_VERSION),
  masterId: hexIdSchema,
  kdf: z.object({
    name: z.literal('scrypt'),
    n: z
      .int()
      .min(2 ** MIN_LOG2_N)
      .max(2 ** MAX_LOG2_N)
      .refine((n) => Number.isInteger(Math.log2(n)), 'must be a power of two'),
    r: z.literal(SCRYPT_R),
    p: z.literal(SCRYPT_P),
    salt: bytesSchema(SALT_BYTES),
  }),
  wrapped: z.object({ nonce: bytesSchema(NONCE_BYTES), key: bytesSchema(MASTER_KEY_BYTES + TAG_BYTES) }),
  createdAtMs: wallMsSchema,
  label: z.string().max(MAX_LABEL_LENGTH),
});

/** One master key, encrypted under one password. */
export type KeyObject = z.infer<typeof keyObjectSchema>;

/** How a password is to be stored. */
export interface NewKey {
  /** Unix ms, for people. */
  readonly createdAtMs: number;
  /** For people, in clear: at most {@link MAX_LABEL_LENGTH} characters. */
  readonly label: string;
  /** log2 of scrypt's N, 10 to 18; 17 when absent. Lower is for tests. */
  readonly scryptLog2N?: number | undefined;
}

/** A master key that a password opened. */
export interface OpenMaster {
  readonly master: Uint8Array;
  readonly secrets: StoreSecrets;
}

/** The stored bytes of a key object that gives `master` to whoever has the password. */
export async function wrapMaster(
  keyId: string,
  { master, secrets }: OpenMaster,
  { password, key }: { readonly password: string; readonly key: NewKey },
): Promise<Uint8Array> {
  const salt = randomBytes(SALT_BYTES);
  const nonce = randomBytes(NONCE_BYTES);
  const n = 2 ** (key.scryptLog2N ?? SCRYPT_LOG2_N);
  const { createdAtMs, label } = key;
  const { masterId } = secrets;
  const cipher = createCipheriv('aes-256-gcm', await keyOfPassword(password, salt, n), nonce);
  cipher.setAAD(boundFields(keyId, { masterId, createdAtMs, label }));
  const wrapped = Buffer.concat([cipher.update(master), cipher.final(), cipher.getAuthTag()]);
  const json = {
    formatVersion: FORMAT_VERSION,
    masterId,
    kdf: { name: 'scrypt', n, r: SCRYPT_R, p: SCRYPT_P, salt: salt.toString('base64') },
    wrapped: { nonce: nonce.toString('base64'), key: wrapped.toString('base64') },
    createdAtMs,
    label,
  };
  return new TextEncoder().encode(JSON.stringify(json));
}

/** @throws {DumontError} CORRUPT for other bytes than a key object's; UNSUPPORTED for another format version */
export function parseKeyObject(key: string, bytes: Uint8Array): KeyObject {
  const value = tryParseJson(Buffer.from(bytes).toString('utf8'));
  const version = z.object({ formatVersion: z.int() }).safeParse(value);
  if (version.success && version.data.formatVersion !== FORMAT_VERSION) {
    throw new DumontError('UNSUPPORTED', `${key} has format version ${version.data.formatVersion}`, {
      hint: 'Use a newer dumont-agent.',
    });
  }
  const parsed = keyObjectSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new DumontError('CORRUPT', `${key} is no key object: ${describeIssues(parsed.error).summary}`);
}

/** The master in a key object; null when the password is not its. @throws {DumontError} CORRUPT when it is forged */
export async function unwrapMaster(keyId: string, object: KeyObject, password: string): Promise<OpenMaster | null> {
  const { kdf, wrapped } = object;
  const kek = await keyOfPassword(password, kdf.salt, kdf.n);
  const decipher = createDecipheriv('aes-256-gcm', kek, wrapped.nonce);
  decipher.setAAD(boundFields(keyId, object));
  decipher.setAuthTag(wrapped.key.subarray(-TAG_BYTES));
  const master = decipher.update(wrapped.key.subarray(0, -TAG_BYTES));
  try {
    decipher.final();
  } catch {
    return null;
  }
  const secrets = deriveSecrets(master);
  if (secrets.masterId === object.masterId) return { master, secrets };
  throw new DumontError('CORRUPT', `key ${keyId} holds another master than it says`);
}

/** Everything of the object that is not secret, so that none of it can be changed or moved to another key. */
function boundFields(keyId: string, object: Pick<KeyObject, 'masterId' | 'createdAtMs' | 'label'>): Uint8Array {
  const { masterId, createdAtMs, label } = object;
  return new TextEncoder().encode(JSON.stringify([FORMAT_VERSION, keyId, masterId, createdAtMs, label]));
}

/** Equal passwords give equal keys however their accents are composed. */
function keyOfPassword(password: string, salt: Uint8Array, n: number): Promise<Buffer> {
  const options: ScryptOptions = { N: n, r: SCRYPT_R, p: SCRYPT_P, maxmem: SCRYPT_MAX_MEMORY_BYTES };
  return new Promise((resolve, reject) => {
    scrypt(password.normalize('NFC'), salt, KEK_BYTES, options, (error, key) => {
      if (error === null) resolve(key);
      else reject(error);
    });
  });
}
