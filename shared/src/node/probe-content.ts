import { createCipheriv, createHash } from 'node:crypto';

/** Written and hashed at a time. */
const BLOCK_BYTES = 1_024 * 1_024;

/**
 * The content of a probe file: bytes that look random and follow from the nonce alone (the key stream of AES-256-CTR), so
 * that who asks for the file knows its hash without having seen it, and nobody can know it without making the bytes.
 */
export function* probeContent(nonce: string, sizeBytes: number): Generator<Buffer, void> {
  const key = createHash('sha256').update(nonce).digest();
  const cipher = createCipheriv('aes-256-ctr', key, Buffer.alloc(16));
  const zeros = Buffer.alloc(BLOCK_BYTES);
  for (let left = sizeBytes; left > 0; left -= BLOCK_BYTES) yield cipher.update(zeros.subarray(0, left));
}

/** SHA-256 of {@link probeContent}, lower-case hex. */
export function probeHash(nonce: string, sizeBytes: number): string {
  const hash = createHash('sha256');
  for (const block of probeContent(nonce, sizeBytes)) hash.update(block);
  return hash.digest('hex');
}
