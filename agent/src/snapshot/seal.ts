import { createCipheriv, createDecipheriv, createSecretKey, randomBytes, type KeyObject } from 'node:crypto';
import { Blake3Hasher } from '@napi-rs/blake-hash';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { hashHex } from './chunk-codec.ts';

/**
 * Keys of an encrypted store, derived from its master key. A plain object, so that it can be given to a thread; null
 * wherever it is optional means a store that is not encrypted.
 */
export interface StoreSecrets {
  /** Which master key: 32 hexadecimal digits. */
  readonly masterId: string;
  /** Keys the BLAKE3 of chunk ids, so that ids tell nothing about known content. 32 bytes. */
  readonly idKey: Uint8Array;
  /** AES-256-GCM key of frames. 32 bytes. */
  readonly frameKey: Uint8Array;
}

/** Skippable frame of the LZ4 format, which the `lz4` command passes over. */
const SEALED_MAGIC = 0x184d2a52;
const HEADER_BYTES = 8;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const OVERHEAD_BYTES = HEADER_BYTES + NONCE_BYTES + TAG_BYTES;

/** The id of a chunk's raw bytes: BLAKE3-256, keyed in an encrypted store. 64 hexadecimal digits. */
export function chunkIdOf(raw: Uint8Array, secrets: StoreSecrets | null): string {
  if (secrets === null) return hashHex(raw);
  return Blake3Hasher.newKeyed(Buffer.from(secrets.idKey)).update(raw).digest('hex');
}

/** What a frame is bound to besides its key; a chunk's is bound by its keyed id and needs none. */
const NOTHING = new Uint8Array();

/**
 * A frame as it is stored: itself, or, with secrets, inside a skippable frame, encrypted under a random nonce of 96 bits,
 * which allows 2^32 frames per key.
 * @param boundTo bytes that are not stored and must be the same when it is opened: its place, where a swap would matter
 */
export function sealFrame(frame: Uint8Array, secrets: StoreSecrets | null, boundTo: Uint8Array = NOTHING): Uint8Array {
  if (secrets === null) return frame;
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', frameKeyOf(secrets), nonce);
  cipher.setAAD(boundTo);
  const body = cipher.update(frame);
  cipher.final();
  const sealed = Buffer.allocUnsafeSlow(OVERHEAD_BYTES + body.length);
  sealed.writeUInt32LE(SEALED_MAGIC, 0);
  sealed.writeUInt32LE(sealed.length - HEADER_BYTES, 4);
  sealed.set(nonce, HEADER_BYTES);
  sealed.set(body, HEADER_BYTES + NONCE_BYTES);
  sealed.set(cipher.getAuthTag(), sealed.length - TAG_BYTES);
  return sealed;
}

/**
 * Inverse of {@link sealFrame}.
 * @throws {DumontError} CORRUPT when it was not sealed with these secrets and for this place, or is sealed and there are none
 */
export function openFrame(stored: Uint8Array, secrets: StoreSecrets | null, boundTo: Uint8Array = NOTHING): Uint8Array {
  const bytes = Buffer.from(stored.buffer, stored.byteOffset, stored.length);
  const isSealed = bytes.length >= OVERHEAD_BYTES && bytes.readUInt32LE(0) === SEALED_MAGIC;
  if (secrets === null) {
    if (isSealed) throw new DumontError('CORRUPT', 'a frame is encrypted in a store that is not');
    return stored;
  }
  if (!isSealed || bytes.readUInt32LE(4) !== bytes.length - HEADER_BYTES) {
    throw new DumontError('CORRUPT', 'a frame is not encrypted in a store that is');
  }
  const bodyAt = HEADER_BYTES + NONCE_BYTES;
  const decipher = createDecipheriv('aes-256-gcm', frameKeyOf(secrets), bytes.subarray(HEADER_BYTES, bodyAt));
  decipher.setAuthTag(bytes.subarray(-TAG_BYTES));
  decipher.setAAD(boundTo);
  try {
    const frame = decipher.update(bytes.subarray(bodyAt, -TAG_BYTES));
    decipher.final();
    return frame;
  } catch (cause) {
    throw new DumontError('CORRUPT', 'a frame does not decrypt: it was changed, moved, or is of another key', {
      cause,
    });
  }
}

/** Making a key object costs three times as much as encrypting a small file with it. Forgotten with the secrets. */
const frameKeys = new WeakMap<StoreSecrets, KeyObject>();

function frameKeyOf(secrets: StoreSecrets): KeyObject {
  const known = frameKeys.get(secrets);
  if (known !== undefined) return known;
  const made = createSecretKey(secrets.frameKey);
  frameKeys.set(secrets, made);
  return made;
}
