import { z } from 'zod';
import { COMMIT_DELAY_MS, LONE_COMMIT_DELAY_MS } from '@dumont/shared/model/policy.ts';
import type { CommitDelays, MachineOpinion } from './suspicion.ts';

const bucketsSchema = z.array(z.number().min(0)).length(24);

/** As it is stored, bounded. Weights fade with time, so they are no whole numbers. */
export const stallRecordSchema = z.object({
  /** The times and weights are of this moment, wall ms. */
  atMs: z.number(),
  /** Time watched, faded, days. */
  days: z.number().min(0),
  /** Silences of at least NOTABLE_SILENCE_MS. */
  silences: z.number().min(0),
  /** By the delay that would have outlasted them: where a second vantage point agreed, and where none did. */
  agreed: bucketsSchema,
  lone: bucketsSchema,
});
export type StallRecord = z.infer<typeof stallRecordSchema>;

/** A silence that ended with a sign of life. */
export interface EndedSilence {
  readonly silenceMs: number;
  /** What others said of the machine when it ended. */
  readonly machine: MachineOpinion;
}

/**
 * How a host behaves: its silences that were no deaths, fading with a half-life of two weeks. From it follows the shortest
 * delay at which at most one false failover a month is to be expected there, between the delays of `fast` and `cautious`.
 *
 * A delay x is judged by `(seen(x) + prior(x) × PRIOR_DAYS) / (days + PRIOR_DAYS)`, with seen(x) the silences that x would
 * not have outlasted, and a prior that falls with the cube of x and is met exactly by `balanced`: a host that nobody knows
 * is treated as balanced, and each month without a long silence makes it faster.
 */
export class StallHistory {
  #record: StallRecord;

  constructor(record: StallRecord | null, nowMs: number) {
    const none = { atMs: nowMs, days: 0, silences: 0, agreed: emptyBuckets(), lone: emptyBuckets() };
    this.#record = record ?? none;
  }

  /** Time during which the host was watched and would have been heard. */
  watched(durationMs: number, nowMs: number): void {
    this.#fade(nowMs);
    this.#record.days += durationMs / DAY_MS;
  }

  ended({ silenceMs, machine }: EndedSilence, nowMs: number): void {
    if (silenceMs < NOTABLE_SILENCE_MS) return;
    this.#fade(nowMs);
    this.#record.silences += 1;
    switch (machine) {
      case 'lost':
        return addTo(this.#record.agreed, silenceMs);
      case 'silent':
        return addTo(this.#record.lone, silenceMs);
      case 'answered':
      case 'unknown':
        // These wait for twice the delay.
        return addTo(this.#record.agreed, silenceMs / 2);
      case 'heard':
        // The delays do not decide here.
        return;
    }
  }

  commitDelays(nowMs: number): CommitDelays {
    this.#fade(nowMs);
    const { agreed, lone, days } = this.#record;
    return {
      agreedMs: shortestDelay(agreed, days, COMMIT_DELAY_MS),
      loneMs: shortestDelay(lone, days, LONE_COMMIT_DELAY_MS),
    };
  }

  /** How much later than others a host is suspected that stalls all the time, 0 to 200 ms. */
  extraMarginMs(nowMs: number): number {
    this.#fade(nowMs);
    const perDay = this.#record.silences / (this.#record.days + PRIOR_DAYS);
    return Math.min(Math.max((perDay - USUAL_SILENCES_PER_DAY) * EXTRA_MS_PER_SILENCE, 0), MAX_EXTRA_MS);
  }

  /** What to store; not changed later. */
  toRecord(nowMs: number): StallRecord {
    this.#fade(nowMs);
    return { ...this.#record, agreed: [...this.#record.agreed], lone: [...this.#record.lone] };
  }

  #fade(nowMs: number): void {
    const { atMs, days, silences, agreed, lone } = this.#record;
    // A wall clock that went back lets nothing fade.
    const share = 2 ** (-Math.max(0, nowMs - atMs) / HALF_LIFE_MS);
    if (share > NOTHING_FADES) return;
    const fade = (weights: readonly number[]) => weights.map((weight) => weight * share);
    this.#record = {
      atMs: nowMs,
      days: days * share,
      silences: silences * share,
      agreed: fade(agreed),
      lone: fade(lone),
    };
  }
}

/** From here on a silence is booked, ms: what raises a suspicion when beats were on time. */
export const NOTABLE_SILENCE_MS = 600;

function shortestDelay(
  seen: readonly number[],
  days: number,
  bounds: { readonly fast: number; readonly balanced: number; readonly cautious: number },
): number {
  let seenAbove = 0;
  let shortestMs = bounds.cautious;
  for (let bucket = seen.length - 1; bucket >= 0; bucket -= 1) {
    seenAbove += seen[bucket] ?? 0;
    const delayMs = lowerEdgeMs(bucket);
    const prior = RATE_PER_DAY * (bounds.balanced / delayMs) ** 3;
    const rate = (seenAbove + prior * PRIOR_DAYS) / (days + PRIOR_DAYS);
    if (rate > RATE_PER_DAY * (1 + ROUNDING)) break;
    if (delayMs <= bounds.cautious) shortestMs = delayMs;
    if (delayMs <= bounds.fast) break;
  }
  return Math.max(shortestMs, bounds.fast);
}

/** Four buckets to the double; 3, 6 and 12 s are edges. The last is open: 40 s and more. */
function lowerEdgeMs(bucket: number): number {
  return FIRST_EDGE_MS * 2 ** (bucket / 4);
}

function addTo(buckets: number[], neededMs: number): void {
  const bucket = Math.floor(4 * Math.log2(Math.max(neededMs, FIRST_EDGE_MS) / FIRST_EDGE_MS));
  const index = Math.min(bucket, buckets.length - 1);
  buckets[index] = (buckets[index] ?? 0) + 1;
}

function emptyBuckets(): number[] {
  return Array.from({ length: 24 }, () => 0);
}

const DAY_MS = 86_400_000;
const HALF_LIFE_MS = 14 * DAY_MS;
const FIRST_EDGE_MS = 750;

/** Half of one false failover a month for each of the two kinds of silence. */
const RATE_PER_DAY = 0.5 / 30;
/** The prior weighs as much as ten days of watching. */
const PRIOR_DAYS = 10;
/** The prior meets the rate exactly: a last digit must not decide. */
const ROUNDING = 1e-9;
/** A minute or so of a half-life of two weeks: not worth the arithmetic. */
const NOTHING_FADES = 0.999_95;

/** A good host has about fifty notable silences a day. */
const USUAL_SILENCES_PER_DAY = 60;
const EXTRA_MS_PER_SILENCE = 2;
/** A confirm still comes within a second: 600 + 200 ms, and 150 ms for a standby's word. */
const MAX_EXTRA_MS = 200;
