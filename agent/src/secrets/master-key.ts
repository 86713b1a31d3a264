import { hkdfSync, randomBytes } from 'node:crypto';
import type { StoreSecrets } from '../snapshot/seal.ts';

export const MASTER_KEY_BYTES = 32;
const MASTER_ID_BYTES = 16;
const DERIVED_KEY_BYTES = 32;

/** A fresh master key, from which everything secret of a store is derived. */
export function newMasterKey(): Uint8Array {
  return randomBytes(MASTER_KEY_BYTES);
}

/**
 * The keys of a master, by HKDF-SHA256 without salt under one label for each; the id too, so that no key object can claim
 * another. Pure; the labels are part of the format.
 */
export function deriveSecrets(master: Uint8Array): StoreSecrets {
  return {
    masterId: Buffer.from(derive(master, 'dumont 1 master id', MASTER_ID_BYTES)).toString('hex'),
    idKey: derive(master, 'dumont 1 chunk ids', DERIVED_KEY_BYTES),
    frameKey: derive(master, 'dumont 1 frames', DERIVED_KEY_BYTES),
  };
}

function derive(master: Uint8Array, label: string, length: number): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', master, new Uint8Array(), label, length));
}
