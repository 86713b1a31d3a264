/** How far back a host's past is looked at. */
export const HISTORY_MS = 90 * 86_400_000;
/** A host is not tried for so long after its last failure. */
const BLACKLIST_MS = 7 * 86_400_000;
/** Below this share of machines that come up a host costs more than it gives. */
const LEAST_SUCCESS = 0.3;
/**
 * Standard deviations of the bounds: each is passed by chance in one case of ten. A host none of whose machines came up is
 * then blacklisted after the fourth.
 */
const BOUND_Z = 1.28;

/** What became of the machines on a host that were waited for. */
export interface HostOutcomes {
  readonly ready: number;
  readonly failed: number;
  /** Wall ms; null without a failure. */
  readonly lastFailedAtMs: number | null;
}

/** What a host's record says of its next machine. */
export interface HostStanding {
  /** Share of the machines waited for that came up; null while none was. */
  readonly successRate: number | null;
  /** Wilson bounds of that share: where it is, with 80 % confidence. 0 and 1 while nothing is known. */
  readonly successLower: number;
  readonly successUpper: number;
  /** Until when no machine is ordered there, wall ms; null when it may be tried now. */
  readonly blacklistedUntilMs: number | null;
}

/** Judged by the upper bound, so that bad luck alone damns nobody. Pure. */
export function standingOfHost({ ready, failed, lastFailedAtMs }: HostOutcomes, nowMs: number): HostStanding {
  const tries = ready + failed;
  const [successLower, successUpper] = wilsonBounds(ready, tries);
  const untilMs = successUpper < LEAST_SUCCESS && lastFailedAtMs !== null ? lastFailedAtMs + BLACKLIST_MS : null;
  return {
    successRate: tries === 0 ? null : ready / tries,
    successLower,
    successUpper,
    blacklistedUntilMs: untilMs !== null && untilMs > nowMs ? untilMs : null,
  };
}

/** Wilson's score interval for `hits` of `tries` (E. B. Wilson 1927), within 0 and 1. Pure. */
export function wilsonBounds(hits: number, tries: number): readonly [lower: number, upper: number] {
  if (tries === 0) return [0, 1];
  const share = hits / tries;
  const zz = BOUND_Z ** 2 / tries;
  const center = (share + zz / 2) / (1 + zz);
  const reach = (BOUND_Z / (1 + zz)) * Math.sqrt((share * (1 - share)) / tries + zz / (4 * tries));
  return [Math.max(0, center - reach), Math.min(1, center + reach)];
}
