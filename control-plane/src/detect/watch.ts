import type { InstanceId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { DetectMode } from '@dumont/shared/model/policy.ts';
import { ArrivalEstimator } from './arrival.ts';
import { commitDelays, marginsOf } from './commit-delays.ts';
import { machineOpinion, type Opinion, type WatchView } from './judge.ts';
import type { StallHistory } from './stall-history.ts';
import { patience, type CommitDelays, type MachineOpinion, type SuspicionKnobs } from './suspicion.ts';
import type { Evidence } from './verdict.ts';
import type { WatchState } from './watch-state.ts';
import { witnessWord, type WitnessReport, type WitnessWord } from './witness.ts';

/** How an instance is watched. */
export interface WatchOptions {
  readonly mode: DetectMode;
  /** How long silence proves nothing after the start; ends early with the third beat. */
  readonly graceMs: number;
  /** The agent's heartbeat period, ms; the knobs' where absent. */
  readonly intervalMs?: number;
}

/** What is known of a watched instance from elsewhere. */
export interface WatchBackground {
  /** Who may testify for it: the standby of this workspace that synchronizes with the primary of this epoch. */
  readonly workspaceId: WorkspaceId;
  readonly epoch: number | null;
  /** Of the machine's host; alive: it goes on learning. */
  readonly history: StallHistory;
}

/**
 * The detector's memory of one instance: mutable, owned by the monitor. All times are listening time (see
 * listening-time.ts) except where a name says otherwise.
 */
export class Watch {
  readonly instanceId: InstanceId;
  readonly #standardKnobs: SuspicionKnobs;
  readonly #arrivals: ArrivalEstimator;
  #knobs: SuspicionKnobs;
  #mode: DetectMode;
  #delays: CommitDelays;
  readonly #graceUntilMs: number;
  #graceBeatsLeft = GRACE_BEATS;
  #abruptlyClosed = false;
  #injectedHard = false;
  #askWanted = false;
  #askedAtMs = Number.NEGATIVE_INFINITY;
  /** Until then silence was announced. */
  #heldUntilMs = Number.NEGATIVE_INFINITY;

  state: WatchState = 'grace';
  lastSignMs: number;
  lastSignMonotonicMs: number;
  /** Nothing can happen to it before this. */
  dueMs: number;
  expectedGapMs: number;
  opinion: Opinion | null = null;
  report: WitnessReport | null = null;
  background: WatchBackground | null = null;
  /** A second opinion is under way. */
  asking = false;
  /** Counts signs of life: an opinion that began before the newest one is void. */
  signs = 0;
  mistakeCount = 0;
  avertedCount = 0;
  readonly evidence = new Map<Evidence['kind'], Evidence>();

  constructor(instanceId: InstanceId, options: WatchOptions, context: WatchContext) {
    this.instanceId = instanceId;
    this.#standardKnobs = context.knobs;
    this.#knobs = context.knobs;
    const intervalMs = options.intervalMs ?? context.knobs.intervalMs;
    this.#arrivals = new ArrivalEstimator({ intervalMs, clampMs: context.knobs.suspectAlphaMs });
    this.expectedGapMs = intervalMs;
    this.#mode = options.mode;
    this.#delays = commitDelays(options.mode, null, context.wallMs);
    this.#graceUntilMs = context.nowMs + options.graceMs;
    this.lastSignMs = context.nowMs;
    this.lastSignMonotonicMs = context.nowMonotonicMs;
    this.dueMs = this.#graceUntilMs;
  }

  setMode(mode: DetectMode, wallMs: number): void {
    this.#mode = mode;
    this.adapt(wallMs);
  }

  /** Takes the delays and margins from the mode and the host's history as it is now. */
  adapt(wallMs: number): void {
    const history = this.background?.history ?? null;
    this.#delays = commitDelays(this.#mode, history, wallMs);
    this.#knobs = marginsOf(this.#mode, history, this.#standardKnobs, wallMs);
  }

  /** Books a beat; the caller applies `heard` to the state. */
  beat(sentMs: number, receivedMs: number, receivedMonotonicMs: number): void {
    // The path's delay is a matter of real time, not of when we could listen.
    this.#arrivals.observe(sentMs, receivedMonotonicMs);
    this.expectedGapMs = this.#arrivals.expectedGapMs();
    this.#graceBeatsLeft -= 1;
    this.sign(receivedMs, receivedMonotonicMs);
  }

  /** Books a sign of life that is not a beat: a hello. A new connection may be a new process with a new clock. */
  hello(receivedMs: number, receivedMonotonicMs: number): void {
    this.#arrivals.reset();
    this.expectedGapMs = this.#arrivals.expectedGapMs();
    this.sign(receivedMs, receivedMonotonicMs);
  }

  /** A sign of life ends the silence and voids whatever was thought of it. */
  sign(receivedMs: number, receivedMonotonicMs: number): void {
    this.lastSignMs = receivedMs;
    this.lastSignMonotonicMs = receivedMonotonicMs;
    this.signs += 1;
    this.opinion = null;
    this.#abruptlyClosed = false;
    this.#askWanted = false;
    this.#askedAtMs = Number.NEGATIVE_INFINITY;
    this.#heldUntilMs = Number.NEGATIVE_INFINITY;
    this.dueMs = this.state === 'grace' ? this.#graceUntilMs : receivedMs + this.patience(0).probeAfterMs;
  }

  /** The agent said that it restarts: its silence proves nothing for a while. */
  holdForRestart(nowMs: number): void {
    this.#heldUntilMs = nowMs + RESTART_HOLD_MS;
  }

  /** The present silence began with an announced restart: it says nothing of the host. */
  get isAnnounced(): boolean {
    return this.#heldUntilMs !== Number.NEGATIVE_INFINITY;
  }

  /** The connection ended without a goodbye. */
  closeAbruptly(): void {
    this.#abruptlyClosed = true;
    this.#hurry();
  }

  /** Adds what somebody outside found out. */
  inject(evidence: Evidence): void {
    this.evidence.set(evidence.kind, evidence);
    if (evidence.hard) this.#injectedHard = true;
    this.#hurry();
  }

  /** A second opinion begins now. */
  beginAsking(nowMs: number): void {
    this.asking = true;
    this.#askWanted = false;
    this.#askedAtMs = nowMs;
  }

  /** Asks again at the next chance when the machine answered, but so long ago that it may have died since. */
  refreshOpinion(nowMs: number): void {
    const isStale = this.opinion?.machine === 'answered' && nowMs - this.#askedAtMs >= FRESH_OPINION_MS;
    if (isStale && !this.asking) this.#askWanted = true;
  }

  /** Is a second opinion due? */
  wantsOpinion(nowMs: number, awareness: number): boolean {
    if (this.asking || this.state === 'committed') return false;
    if (this.#askWanted) return true;
    if (this.#abruptlyClosed && (this.state === 'grace' || this.state === 'alive')) {
      return nowMs - this.#askedAtMs >= this.#knobs.recheckBrokenEveryMs;
    }
    if (this.state === 'grace' || nowMs - this.lastSignMs < this.patience(awareness).probeAfterMs) return false;
    return nowMs - this.#askedAtMs >= this.#knobs.recheckEveryMs;
  }

  witness(nowMs: number): WitnessWord {
    return witnessWord(this.report, { nowMs, lastSignMs: this.lastSignMs });
  }

  /** What others say of the machine in the present silence. */
  machine(nowMs: number): MachineOpinion {
    return machineOpinion({ opinion: this.opinion, witness: this.witness(nowMs) });
  }

  patience(awareness: number) {
    return patience(this.expectedGapMs, awareness, this.#knobs);
  }

  view(nowMs: number, awareness: number): WatchView {
    return {
      state: this.state,
      silenceMs: nowMs - this.lastSignMs,
      graceOver: this.#graceBeatsLeft <= 0 || nowMs >= this.#graceUntilMs,
      expectedGapMs: this.expectedGapMs,
      delays: this.#delays,
      awareness,
      knobs: this.#knobs,
      opinion: this.opinion,
      witness: this.witness(nowMs),
      abruptlyClosed: this.#abruptlyClosed,
      injectedHard: this.#injectedHard,
      restarting: nowMs < this.#heldUntilMs,
    };
  }

  #hurry(): void {
    this.#askWanted = true;
    this.dueMs = Number.NEGATIVE_INFINITY;
  }
}

export interface WatchContext {
  readonly knobs: SuspicionKnobs;
  readonly nowMs: number;
  readonly wallMs: number;
  readonly nowMonotonicMs: number;
}

/** An agent starts within a second; a slow disk or a busy host takes some more. After that it counts as any silence. */
export const RESTART_HOLD_MS = 5_000;

/** Enough to know the rhythm. */
const GRACE_BEATS = 3;

/** Less than one probe takes: an answer younger than this would only be repeated. */
const FRESH_OPINION_MS = 200;
