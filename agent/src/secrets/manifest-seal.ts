import { DumontError, isDumontError } from '@dumont/shared/util/errors.ts';
import { openFrame, sealFrame, type StoreSecrets } from '../snapshot/seal.ts';

/** Skippable frame of the LZ4 format: which master an object is encrypted under. */
const MASTER_MAGIC = 0x184d2a53;
const HEADER_BYTES = 8;
const MASTER_ID_BYTES = 16;
/** So many bytes at the beginning of a manifest tell its master. */
export const MANIFEST_MASTER_BYTES = HEADER_BYTES + MASTER_ID_BYTES;

/**
 * A manifest as it is stored: itself, or, with secrets, the id of its master and one sealed frame, which opens under this
 * key of the store only.
 */
export function sealManifest(bytes: Uint8Array, key: string, secrets: StoreSecrets | null): Uint8Array {
  if (secrets === null) return bytes;
  const head = Buffer.alloc(MANIFEST_MASTER_BYTES);
  head.writeUInt32LE(MASTER_MAGIC, 0);
  head.writeUInt32LE(MASTER_ID_BYTES, 4);
  head.write(secrets.masterId, HEADER_BYTES, 'hex');
  return Buffer.concat([head, sealFrame(bytes, secrets, placeOf(key))]);
}

/**
 * Inverse of {@link sealManifest}.
 * @throws {DumontError} UNAUTHORIZED when it is encrypted and there are no secrets, or those of another master; CORRUPT
 * when it was changed, belongs under another key, or is in clear although there are secrets
 */
export function openManifest(stored: Uint8Array, key: string, secrets: StoreSecrets | null): Uint8Array {
  const masterId = masterIdOf(stored);
  if (secrets === null) {
    if (masterId === null) return stored;
    throw new DumontError('UNAUTHORIZED', `${key} is encrypted and no password was given`, {
      hint: 'Set SNAPSHOT_PASSWORD to its password, or name a file with --password-file.',
    });
  }
  if (masterId === null) throw new DumontError('CORRUPT', `${key} is not encrypted in a store that is`);
  if (masterId !== secrets.masterId) {
    throw new DumontError('UNAUTHORIZED', `${key} is encrypted under the master key ${masterId}, not this password's`, {
      hint: 'Give the password it was made with; dumont-agent key list shows which keys the store holds.',
    });
  }
  try {
    return openFrame(stored.subarray(MANIFEST_MASTER_BYTES), secrets, placeOf(key));
  } catch (error) {
    throw isDumontError(error) ? new DumontError(error.code, `${key}: ${error.message}`, { cause: error }) : error;
  }
}

/** The master id at the beginning of a manifest, 32 hexadecimal digits; null for one in clear. */
export function masterIdOf(stored: Uint8Array): string | null {
  const head = Buffer.from(stored.buffer, stored.byteOffset, Math.min(stored.length, MANIFEST_MASTER_BYTES));
  if (head.length < MANIFEST_MASTER_BYTES || head.readUInt32LE(0) !== MASTER_MAGIC) return null;
  return head.readUInt32LE(4) === MASTER_ID_BYTES ? head.toString('hex', HEADER_BYTES) : null;
}

function placeOf(key: string): Uint8Array {
  return new TextEncoder().encode(key);
}
