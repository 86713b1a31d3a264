import type { Random } from './random.ts';

export interface BackoffPolicy {
  readonly baseMs: number;
  readonly capMs: number;
}

/**
 * Delay before retry number `attempt` (0 is the first retry): full jitter over an exponentially growing window,
 * `random × min(cap, base × 2^attempt)`, at least a tenth of the base so that a loop never spins.
 * Source: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
 */
export function backoffMs(attempt: number, policy: BackoffPolicy, random: Random): number {
  const windowMs = Math.min(policy.capMs, policy.baseMs * 2 ** Math.min(attempt, 30));
  return Math.max(policy.baseMs / 10, random.next() * windowMs);
}
