/**
 * The detector's doubt in itself (after Lifeguard: A. Dadgar, J. Phillips, J. Currey, "Lifeguard: Local Health Awareness
 * for More Accurate Failure Detection", DSN 2018): 0 when all is well, up to MAX_AWARENESS. Every deadline is stretched by
 * (1 + level), because when many machines fall silent together, it is us or our network. Our own lateness is not guessed
 * at but measured, and taken off every silence: see listening-time.ts.
 */
export interface Awareness {
  readonly level: number;
  /** When the level last moved, ms on the caller's monotonic clock. */
  readonly movedAtMs: number;
}

/** What one sweep saw of ourselves. */
export interface SelfCheck {
  readonly nowMs: number;
  /** Instances whose beat is overdue, of those that were heard until lately. */
  readonly lateCount: number;
  readonly watchedCount: number;
}

export const CALM: Awareness = { level: 0, movedAtMs: Number.NEGATIVE_INFINITY };

/** The level after this sweep: one up at most every 250 ms while unwell, one down for every second of health. Pure. */
export function nextAwareness(awareness: Awareness, check: SelfCheck): Awareness {
  const sinceMs = check.nowMs - awareness.movedAtMs;
  if (isUnwell(check)) {
    if (awareness.level === MAX_AWARENESS) return { level: MAX_AWARENESS, movedAtMs: check.nowMs };
    return sinceMs >= RAISE_EVERY_MS ? { level: awareness.level + 1, movedAtMs: check.nowMs } : awareness;
  }
  if (awareness.level === 0 || sinceMs < LOWER_EVERY_MS) return awareness;
  return { level: awareness.level - 1, movedAtMs: check.nowMs };
}

function isUnwell(check: SelfCheck): boolean {
  return check.lateCount >= MIN_LATE_TOGETHER && check.lateCount >= check.watchedCount * LATE_TOGETHER_SHARE;
}

/** Four times the patience: a dead zone is still noticed within 2.4 s. */
export const MAX_AWARENESS = 3;

/** Below three, coincidence is likelier than a common cause. */
const MIN_LATE_TOGETHER = 3;
const LATE_TOGETHER_SHARE = 0.2;

/** About the time from a first missed beat to a suspicion, so that the first rise comes in time. */
const RAISE_EVERY_MS = 250;
const LOWER_EVERY_MS = 1_000;
