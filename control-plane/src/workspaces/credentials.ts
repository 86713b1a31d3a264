import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import type { InstanceRow } from '../store/instances.ts';

/** 256 random bits in base64url, the shape of tokens and credentials: nothing to guess, so a fast hash is enough. */
export function drawSecret(): string {
  return randomBytes(32).toString('base64url');
}

/** Lower-case hex SHA-256: what the database keeps of a token or credential. */
export function hashSecret(secret: string): string {
  return createHash('sha256').update(secret).digest('hex');
}

/** What a credential is to an instance; `none` also for an instance that has not joined. */
export type CredentialRank = 'present' | 'next' | 'former' | 'none';

/** Ranks a credential in time that depends on neither it nor the hashes. Pure. Only `present` and `next` admit. */
export function rankCredential(
  credential: string,
  instance: Pick<InstanceRow, 'credentialHash' | 'nextCredentialHash' | 'formerCredentialHash'>,
): CredentialRank {
  const hash = hashSecret(credential);
  const isPresent = sameHash(hash, instance.credentialHash);
  const isNext = sameHash(hash, instance.nextCredentialHash);
  const isFormer = sameHash(hash, instance.formerCredentialHash);
  if (isPresent) return 'present';
  if (isNext) return 'next';
  return isFormer ? 'former' : 'none';
}

function sameHash(hash: string, stored: string | null): boolean {
  const given = Buffer.from(hash, 'hex');
  // Compared with itself where nothing is stored, so that absence takes as long as a difference.
  const other = stored === null ? given : Buffer.from(stored, 'hex');
  return other.length === given.length && timingSafeEqual(given, other) && stored !== null;
}
