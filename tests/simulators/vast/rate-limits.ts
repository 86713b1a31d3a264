import type { Clock } from '@dumont/shared/util/clock.ts';

/** Calls allowed in a window of seconds; one call a window is a least pause. */
interface Limit {
  readonly calls: number;
  readonly seconds: number;
}

/** The documented limits, by class of endpoint. */
const LIMITS: Readonly<Record<string, Limit>> = {
  search: { calls: 10, seconds: 60 },
  create: { calls: 1, seconds: 4.5 },
  show: { calls: 1, seconds: 2 },
  list: { calls: 1, seconds: 1 },
  manage: { calls: 1, seconds: 1 },
  destroy: { calls: 1, seconds: 3 },
  bid: { calls: 1, seconds: 5.5 },
  'ssh-key': { calls: 1, seconds: 1 },
};

/** Refuses calls that come too fast, per class of endpoint and key, as the real server does. */
export class RateLimits {
  /** Calls that were refused, by class. */
  readonly refused: string[] = [];
  readonly #clock: Clock;
  readonly #accepted = new Map<string, number[]>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The text of a 429; undefined when the call may be made. */
  objection(endpoint: string, identity: string): string | undefined {
    const limit = LIMITS[endpoint];
    if (limit === undefined) return undefined;
    const nowMs = this.#clock.monotonicMs();
    const name = `${endpoint} ${identity}`;
    const recent = (this.#accepted.get(name) ?? []).filter((atMs) => nowMs - atMs < limit.seconds * 1_000);
    if (recent.length >= limit.calls) {
      this.refused.push(endpoint);
      return `API requests too frequent: endpoint threshold=${(limit.seconds / limit.calls).toFixed(1)}`;
    }
    this.#accepted.set(name, [...recent, nowMs]);
    return undefined;
  }
}
