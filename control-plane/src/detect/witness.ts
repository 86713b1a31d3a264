/**
 * What a standby's word on its primary's silence is worth.
 * - `hears`: the standby heard the primary well after we did: it lives and is cut off from us
 * - `lost`: the standby lost it when we did
 * - `pending`: the standby listens, and its news of the primary is too young to tell
 * - `absent`: there is no standby, it is silent itself, or it lost the primary long before we did: it proves nothing
 */
export type WitnessWord = 'hears' | 'lost' | 'pending' | 'absent';

/** The newest report of a standby; both in listening time, ms. */
export interface WitnessReport {
  /** When the report came. */
  readonly reportedAtMs: number;
  /** When the standby had last heard anything of the primary, as far as we can tell: not earlier than it did. */
  readonly heardAtMs: number;
}

/** Weighs the newest report against our own silence, which began at `lastSignMs`. Pure. */
export function witnessWord(
  report: WitnessReport | null,
  silence: { readonly nowMs: number; readonly lastSignMs: number },
): WitnessWord {
  if (report === null || silence.nowMs - report.reportedAtMs > REPORT_STALE_MS) return 'absent';
  const leadMs = report.heardAtMs - silence.lastSignMs;
  if (leadMs < -SAME_TIME_MS) return 'absent';
  if (leadMs > HEARD_AFTER_MS && silence.nowMs - report.heardAtMs < HEARD_FRESH_MS) return 'hears';
  return report.reportedAtMs - report.heardAtMs >= LOST_AFTER_MS ? 'lost' : 'pending';
}

/** Three reports of a standby that beats every 200 ms. */
const REPORT_STALE_MS = 600;

/**
 * A dying primary may send its standby a sign up to one beat after its last one to us, over a path that is slower by up to
 * 100 ms, and a standby looks up to 100 ms before it reports: no more than that proves life.
 */
const HEARD_AFTER_MS = 400;

/** Two signs of life on the sync connection (200 ms apart) and one report on their way, with room for jitter. */
const HEARD_FRESH_MS = 800;

/** One sign missed and most of a second. */
const LOST_AFTER_MS = 350;

/** A sync connection that broke long before says nothing of what happened now. */
const SAME_TIME_MS = 1_500;

/** How long a confirm waits for a `pending` witness, ms after the suspicion: until one more report has come. */
export const PENDING_MS = 150;
