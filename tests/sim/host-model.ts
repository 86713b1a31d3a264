import type { Random } from '@dumont/shared/util/random.ts';

/**
 * A model of hosts and paths, not a measurement. Rates are per host and day:
 * - stalls of an agent, log-normal with a median of 250 ms; a fifth of them freezes the whole machine and its ports
 * - outages of the path between the machine and the control plane, log-normal with a median of 1.5 s; the path between
 *   the machine and its standby has outages of its own
 * - lost packets, repaired after 200 ms, 400 ms, …; TCP holds back everything behind them
 */
export interface HostProfile {
  readonly stallsPerDay: number;
  readonly outagesPerDay: number;
  readonly lossShare: number;
}

export const PROFILES = {
  good: { stallsPerDay: 144, outagesPerDay: 3, lossShare: 0.002 },
  noisy: { stallsPerDay: 600, outagesPerDay: 12, lossShare: 0.01 },
} as const satisfies Record<string, HostProfile>;
export type ProfileName = keyof typeof PROFILES;

export const DAY_MS = 86_400_000;
export const BEAT_MS = 200;

/** One beat of a host, all in virtual ms. */
export interface SimBeat {
  readonly sentMs: number;
  readonly arrivalMs: number;
  /** Quiet time before it that is left out of the virtual time, ms. */
  readonly leapMs: number;
}

/**
 * Draws a host's beats and tells what others see of it meanwhile.
 *
 * With `leaps`, quiet time is left out: from one second after a disturbance to one second before the next. Nothing can
 * happen there, because what remains is a path of a few ms jitter and single lost packets: gaps between beats stay below
 * 500 ms, where the detector compares two numbers and does nothing, and its state before a disturbance is that of
 * an instance heard in time. Only the mean of the last 200 offsets remembers longer; of the beats that were simulated more
 * are late than of all, which moves a suspicion by less than 10 ms, and no commit. Lost twice or more counts as a
 * disturbance. What is left is about one beat in two hundred.
 */
export class HostModel {
  readonly #profile: HostProfile;
  readonly #random: Random;
  readonly #leaps: boolean;
  #sendAtMs: number;
  #lastArrivalMs = 0;
  #untilNextMs: number;
  #calmSinceMs = 0;
  #stall = NEVER;
  #frozen = NEVER;
  #outage = NEVER;
  readonly #signPhaseMs: number;

  constructor(profile: HostProfile, random: Random, options: { readonly leaps: boolean }) {
    this.#profile = profile;
    this.#random = random;
    this.#leaps = options.leaps;
    this.#sendAtMs = random.next() * BEAT_MS;
    this.#signPhaseMs = random.next() * BEAT_MS;
    this.#untilNextMs = this.#drawUntilNext();
  }

  next(): SimBeat {
    let leapMs = 0;
    const isCalm = this.#sendAtMs - this.#calmSinceMs > KEPT_AFTER_MS;
    if (this.#leaps && isCalm && this.#untilNextMs > KEPT_BEFORE_MS) {
      leapMs = this.#untilNextMs - KEPT_BEFORE_MS;
      this.#untilNextMs = KEPT_BEFORE_MS;
    }
    let repairMs = this.#random.next() < this.#profile.lossShare ? RETRANSMIT_MS : 0;
    this.#untilNextMs -= BEAT_MS;
    if (this.#untilNextMs <= 0) {
      repairMs = Math.max(repairMs, this.#disturb());
      this.#untilNextMs = this.#drawUntilNext();
    }
    const sentMs = this.#sendAtMs;
    let arrivalMs = sentMs + this.pathMs() + repairMs;
    if (sentMs < this.#outage.untilMs)
      arrivalMs = Math.max(arrivalMs, this.#outage.untilMs + RETRANSMIT_MS * this.#random.next());
    arrivalMs = Math.max(arrivalMs, this.#lastArrivalMs);
    this.#lastArrivalMs = arrivalMs;
    if (arrivalMs - sentMs > RETRANSMIT_MS + BEAT_MS) this.#calmSinceMs = arrivalMs;
    this.#sendAtMs += BEAT_MS;
    return { sentMs, arrivalMs, leapMs };
  }

  /** Would its banner port answer the control plane now? */
  answersAt(nowMs: number): boolean {
    return !isWithin(nowMs, this.#frozen) && !isWithin(nowMs, this.#outage);
  }

  /** When its standby had last heard of it, at that moment: a sign of life every 200 ms, from the agent itself. */
  heardByStandby(nowMs: number): number {
    const delayMs = this.pathMs();
    let sentBeforeMs = nowMs - delayMs;
    if (isWithin(sentBeforeMs, this.#stall)) sentBeforeMs = this.#stall.fromMs;
    return Math.floor((sentBeforeMs - this.#signPhaseMs) / BEAT_MS) * BEAT_MS + this.#signPhaseMs + delayMs;
  }

  /** One way, ms. */
  pathMs(): number {
    return 20 + 10 * this.#exponential();
  }

  /** @returns how much later than usual the next beat arrives because it was lost, ms */
  #disturb(): number {
    const { stallsPerDay, outagesPerDay } = this.#profile;
    const pick = this.#random.next() * this.#ratePerDay();
    if (pick < stallsPerDay) {
      const stallMs = 250 * Math.exp(0.9 * this.#normal());
      this.#stall = { fromMs: this.#sendAtMs, untilMs: this.#sendAtMs + stallMs };
      if (this.#random.next() < FREEZE_SHARE) this.#frozen = this.#stall;
      this.#sendAtMs += stallMs;
      this.#calmSinceMs = this.#sendAtMs;
      return 0;
    }
    if (pick < stallsPerDay + outagesPerDay) {
      const outageMs = 1_500 * Math.exp(0.8 * this.#normal());
      this.#outage = { fromMs: this.#sendAtMs, untilMs: this.#sendAtMs + outageMs };
      return 0;
    }
    let repairMs = RETRANSMIT_MS + 2 * RETRANSMIT_MS;
    for (let waitMs = 4 * RETRANSMIT_MS; this.#random.next() < this.#profile.lossShare; waitMs *= 2) repairMs += waitMs;
    return repairMs;
  }

  #ratePerDay(): number {
    const { stallsPerDay, outagesPerDay, lossShare } = this.#profile;
    return stallsPerDay + outagesPerDay + lossShare ** 2 * (DAY_MS / BEAT_MS);
  }

  #drawUntilNext(): number {
    return (this.#exponential() * DAY_MS) / this.#ratePerDay();
  }

  #exponential(): number {
    return -Math.log(1 - this.#random.next());
  }

  #normal(): number {
    return Math.sqrt(2 * this.#exponential()) * Math.cos(2 * Math.PI * this.#random.next());
  }
}

interface Span {
  readonly fromMs: number;
  readonly untilMs: number;
}

const NEVER: Span = { fromMs: 0, untilMs: 0 };

function isWithin(nowMs: number, span: Span): boolean {
  return nowMs >= span.fromMs && nowMs < span.untilMs;
}

const FREEZE_SHARE = 0.2;
const RETRANSMIT_MS = 200;
const KEPT_BEFORE_MS = 1_000;
const KEPT_AFTER_MS = 1_000;
