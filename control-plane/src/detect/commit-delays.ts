import { COMMIT_DELAY_MS, LONE_COMMIT_DELAY_MS, type DetectMode } from '@dumont/shared/model/policy.ts';
import type { StallHistory } from './stall-history.ts';
import type { CommitDelays, SuspicionKnobs } from './suspicion.ts';

/** The delays of a mode; `adaptive` takes them from the host's history, and is `balanced` while that is not known. Pure. */
export function commitDelays(mode: DetectMode, history: StallHistory | null, nowMs: number): CommitDelays {
  if (mode !== 'adaptive') return { agreedMs: COMMIT_DELAY_MS[mode], loneMs: LONE_COMMIT_DELAY_MS[mode] };
  if (history === null) return { agreedMs: COMMIT_DELAY_MS.balanced, loneMs: LONE_COMMIT_DELAY_MS.balanced };
  return history.commitDelays(nowMs);
}

/** The margins of a mode: `adaptive` gives a host that stalls all the time up to 200 ms more before it is suspected. Pure. */
export function marginsOf(
  mode: DetectMode,
  history: StallHistory | null,
  knobs: SuspicionKnobs,
  nowMs: number,
): SuspicionKnobs {
  if (mode !== 'adaptive' || history === null) return knobs;
  return { ...knobs, suspectAlphaMs: knobs.suspectAlphaMs + history.extraMarginMs(nowMs) };
}
