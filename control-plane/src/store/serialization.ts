import type { BackoffPolicy } from '@dumont/shared/util/backoff.ts';

/** How often a transaction is tried again when the database serialised another one before it. */
export const MAX_TRANSACTION_ATTEMPTS = 20;

/** Pauses between the attempts: transactions take milliseconds, so do their rivals. */
export const TRANSACTION_BACKOFF: BackoffPolicy = { baseMs: 5, capMs: 200 };

/** PostgreSQL's serialization_failure and deadlock_detected: the same work may succeed when repeated. */
export function isSerializationFailure(error: unknown): boolean {
  return (
    typeof error === 'object' && error !== null && 'code' in error && (error.code === '40001' || error.code === '40P01')
  );
}

/** PostgreSQL's unique_violation, optionally of one constraint or index. */
export function isUniqueViolation(error: unknown, constraint?: string): boolean {
  if (typeof error !== 'object' || error === null || !('code' in error) || error.code !== '23505') return false;
  return constraint === undefined || ('constraint' in error && error.constraint === constraint);
}
