import type { Situation } from './situation.ts';

/**
 * `warn`: it works, though not as it should. `fail`: something does not work. `skip`: it does not apply here, or cannot
 * be told.
 */
export const CHECK_STATUSES = ['fail', 'warn', 'skip', 'ok'] as const;
export type CheckStatus = (typeof CHECK_STATUSES)[number];

/** What a check found, in words without any secret. */
export interface Finding {
  readonly status: CheckStatus;
  readonly detail: string;
  /** What the reader can do about it; for what is not ok. */
  readonly fix?: string;
}

/** One thing a user may have wrong. It looks and changes nothing, but for throw-away files that it removes. */
export interface Check {
  /** Stable: `--only` and scripts name it. */
  readonly id: string;
  readonly title: string;
  /** Longest it may take, ms; DEFAULT_TIME_LIMIT_MS when absent. */
  readonly timeLimitMs?: number;
  run(situation: Situation, signal: AbortSignal): Promise<Finding>;
}

export interface CheckResult {
  readonly id: string;
  readonly title: string;
  readonly status: CheckStatus;
  readonly detail: string;
  readonly fix: string | null;
  readonly ms: number;
}

export function ok(detail: string): Finding {
  return { status: 'ok', detail };
}

export function skip(detail: string): Finding {
  return { status: 'skip', detail };
}

export function warn(detail: string, fix: string): Finding {
  return { status: 'warn', detail, fix };
}

export function fail(detail: string, fix: string): Finding {
  return { status: 'fail', detail, fix };
}
