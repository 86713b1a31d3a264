import type { PaceRule } from '../http/request-pace.ts';

/** Classes of endpoints that share one limit. */
export type VastEndpoint = 'search' | 'create' | 'show' | 'list' | 'manage' | 'destroy' | 'bid' | 'ssh-key' | 'account';

/**
 * The documented limits per key and address: least pauses, but for the search, which is so many calls a minute. That of
 * `account` is not documented; it is asked for once in a while.
 */
export const VAST_LIMITS: Readonly<Record<VastEndpoint, PaceRule>> = {
  search: { calls: 10, perMs: 60_000 },
  create: { calls: 1, perMs: 4_500 },
  show: { calls: 1, perMs: 2_000 },
  list: { calls: 1, perMs: 1_000 },
  manage: { calls: 1, perMs: 1_000 },
  destroy: { calls: 1, perMs: 3_000 },
  bid: { calls: 1, perMs: 5_500 },
  'ssh-key': { calls: 1, perMs: 1_000 },
  account: { calls: 1, perMs: 2_000 },
};

/** What a 429 of Vast asks for: its body names the least pause in seconds, no header does. Pure. */
export function throttledMs(answerText: string): number | undefined {
  const seconds = /threshold=([0-9]+(?:\.[0-9]+)?)/.exec(answerText)?.[1];
  return seconds === undefined ? undefined : Number(seconds) * 1_000;
}
