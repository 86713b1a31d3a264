import type { InstanceId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { nextState } from '@dumont/shared/model/transition.ts';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Heartbeat } from '@dumont/shared/protocol/heartbeat.ts';
import { CLOSE_CODES } from '@dumont/shared/protocol/version.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { CALM, nextAwareness, type Awareness } from './awareness.ts';
import { nextWatchEvent, opinionOf } from './judge.ts';
import { DEAF_AFTER_MS, ListeningTime } from './listening-time.ts';
import { NOTABLE_SILENCE_MS, type EndedSilence } from './stall-history.ts';
import { STANDARD_KNOBS, type MachineOpinion, type SuspicionKnobs } from './suspicion.ts';
import type { Corroborator, Evidence, Verdict } from './verdict.ts';
import { Watch, type WatchBackground, type WatchOptions } from './watch.ts';
import { verdictsOf, WATCH_TABLE, type WatchEvent, type WatchState } from './watch-state.ts';

export interface HeartbeatMonitorOptions {
  readonly clock: Clock;
  readonly corroborator: Corroborator;
  /** Synchronous, must not throw; may call back into the monitor. */
  readonly onVerdict: (verdict: Verdict) => void;
  readonly log: Logger;
  /** How late this process's event loop runs at present, ms. */
  readonly loopLagMs: () => number;
  /** {@link STANDARD_KNOBS} by default. */
  readonly knobs?: SuspicionKnobs;
  /** Hears what the quality of the verdicts is measured by. */
  readonly journal?: DetectionJournal;
}

/** What happens to watched instances beside verdicts. Synchronous, must not throw; may call back into the monitor. */
export interface DetectionJournal {
  /** A watch began, or began anew after a commit. */
  watched(instanceId: InstanceId): void;
  unwatched(instanceId: InstanceId): void;
  /** A sign of life after at least NOTABLE_SILENCE_MS; `committed`: too late, the instance was given up. */
  silenceEnded(instanceId: InstanceId, silence: EndedSilence & { readonly committed: boolean }): void;
}

/** What the detector thinks of one instance now. */
export interface WatchStatus {
  readonly state: WatchState;
  /** Since the last sign of life, ms. */
  readonly silenceMs: number;
  /** The silence that raises a suspicion at present, ms. */
  readonly suspectDeadlineMs: number;
  /** Suspicions taken back. */
  readonly mistakeCount: number;
  /** Confirms taken back: failovers that were averted. */
  readonly avertedCount: number;
  readonly evidence: readonly Evidence[];
}

/**
 * Watches every instance's signs of life and says, in rising grades, when one is lost (spec: docs/DETECTION.md). Only
 * monotonic time decides. One sweep serves the whole fleet: a comparison per instance every 25 ms, and work only for the
 * silent ones. After `commit` an instance is judged no more until it is watched anew.
 */
export class HeartbeatMonitor implements AsyncDisposable {
  readonly #clock: Clock;
  readonly #corroborator: Corroborator;
  readonly #onVerdict: (verdict: Verdict) => void;
  readonly #log: Logger;
  readonly #loopLagMs: () => number;
  readonly #knobs: SuspicionKnobs;
  readonly #journal: DetectionJournal | undefined;
  readonly #watches = new Map<InstanceId, Watch>();
  /** Who is watched for each workspace, where that is known: a standby testifies for its own. */
  readonly #byWorkspace = new Map<WorkspaceId, Watch>();
  /** Committed on mere silence, watched or not any more: since when they were silent, and what others said of them. */
  readonly #givenUp = new Map<InstanceId, { readonly sinceMs: number; readonly machine: MachineOpinion }>();
  readonly #opinions = new Set<Promise<void>>();
  readonly #time: ListeningTime;
  readonly #stopSweeping: () => void;
  #awareness: Awareness = CALM;
  #disposed = false;

  constructor(options: HeartbeatMonitorOptions) {
    this.#clock = options.clock;
    this.#corroborator = options.corroborator;
    this.#onVerdict = options.onVerdict;
    this.#log = options.log;
    this.#loopLagMs = options.loopLagMs;
    this.#knobs = options.knobs ?? STANDARD_KNOBS;
    this.#journal = options.journal;
    this.#time = new ListeningTime({ nowMs: options.clock.monotonicMs(), tickEveryMs: SWEEP_EVERY_MS });
    this.#stopSweeping = options.clock.every(SWEEP_EVERY_MS, () => this.#sweep());
  }

  /**
   * Starts to watch, or changes the mode of a watched instance (its history and state stay). A committed one starts
   * anew.
   * @throws {DumontError} LIMIT above MAX_WATCHED instances
   */
  watch(instanceId: InstanceId, options: WatchOptions): void {
    const known = this.#watches.get(instanceId);
    if (known !== undefined && known.state !== 'committed') {
      known.setMode(options.mode, this.#clock.nowMs());
      return;
    }
    if (known === undefined && this.#watches.size >= MAX_WATCHED) {
      throw new DumontError('LIMIT', `cannot watch ${instanceId}: ${MAX_WATCHED} instances are watched already`);
    }
    const [nowMs, nowMonotonicMs, wallMs] = [this.#now(), this.#clock.monotonicMs(), this.#clock.nowMs()];
    const context = { knobs: this.#knobs, nowMs, nowMonotonicMs, wallMs };
    this.#watches.set(instanceId, new Watch(instanceId, options, context));
    this.#journal?.watched(instanceId);
  }

  /** Stops watching and forgets; unknown instances are fine. No verdict follows. */
  unwatch(instanceId: InstanceId): void {
    const watch = this.#watches.get(instanceId);
    if (watch === undefined) return;
    this.#watches.delete(instanceId);
    this.#forgetWitness(watch);
    this.#journal?.unwatched(instanceId);
  }

  /** Tells who testifies for a watched instance and how its host behaves; no-op for one that is not watched. */
  introduce(instanceId: InstanceId, background: WatchBackground): void {
    const watch = this.#watches.get(instanceId);
    if (watch === undefined) return;
    this.#forgetWitness(watch);
    watch.background = background;
    watch.adapt(this.#clock.nowMs());
    this.#byWorkspace.set(background.workspaceId, watch);
  }

  /** The host's history has changed on its own: time passed. */
  adapt(instanceId: InstanceId): void {
    this.#watches.get(instanceId)?.adapt(this.#clock.nowMs());
  }

  /** A standby's word on its workspace's primary; that of another epoch says nothing. */
  testify(workspaceId: WorkspaceId, peer: NonNullable<Heartbeat['peer']>, receivedMonotonicMs: number): void {
    const watch = this.#byWorkspace.get(workspaceId);
    const nowMs = this.#now();
    if (watch === undefined || watch.background?.epoch !== peer.epoch) return;
    const reportedAtMs = this.#time.at(receivedMonotonicMs);
    watch.report = { reportedAtMs, heardAtMs: reportedAtMs - peer.heardMsAgo };
    if (watch.state === 'suspect' || watch.state === 'confirmed') this.#judge(watch, nowMs);
  }

  /** Books a heartbeat. `receivedMonotonicMs` is this process's monotonic clock when the frame was read. */
  observe(instanceId: InstanceId, beat: Heartbeat, receivedMonotonicMs: number): void {
    const watch = this.#watches.get(instanceId);
    this.#now();
    if (watch === undefined || watch.state === 'committed') return this.#noteReturn(instanceId);
    this.#noteSilence(watch);
    watch.beat(beat.monotonicMs, this.#time.at(receivedMonotonicMs), receivedMonotonicMs);
    this.#heard(watch);
  }

  /** A hello arrived: a sign of life. */
  connected(instanceId: InstanceId): void {
    const watch = this.#watches.get(instanceId);
    if (watch === undefined || watch.state === 'committed') return this.#noteReturn(instanceId);
    this.#noteSilence(watch);
    watch.hello(this.#now(), this.#clock.monotonicMs());
    this.#heard(watch);
  }

  /**
   * The agent's connection ended. An abrupt end asks for a second opinion at once; a goodbye proves nothing, and an
   * announced restart holds the judgement of its silence for RESTART_HOLD_MS. Injected hard evidence counts all the same.
   */
  disconnected(instanceId: InstanceId, info: { readonly abrupt: boolean; readonly code?: number }): void {
    const watch = this.#watches.get(instanceId);
    if (watch === undefined || watch.state === 'committed') return;
    if (info.code === CLOSE_CODES.restarting) watch.holdForRestart(this.#now());
    if (!info.abrupt) return;
    watch.closeAbruptly();
    watch.evidence.set('socket-closed', { kind: 'socket-closed', hard: false, atMs: this.#clock.nowMs() });
    this.#judge(watch, this.#now());
  }

  /**
   * Adds evidence from outside (a person, a provider's notice). Hard evidence commits at once, even while beats flow;
   * soft evidence asks for a second opinion at once.
   * @returns false when the instance is not watched (any more)
   */
  inject(instanceId: InstanceId, evidence: Evidence): boolean {
    const watch = this.#watches.get(instanceId);
    if (watch === undefined || watch.state === 'committed') return false;
    watch.inject(evidence);
    this.#judge(watch, this.#now());
    return true;
  }

  /** Null for an instance that is not watched. A committed one stays visible until `unwatch`. */
  status(instanceId: InstanceId): WatchStatus | null {
    const watch = this.#watches.get(instanceId);
    if (watch === undefined) return null;
    return {
      state: watch.state,
      silenceMs: this.#clock.monotonicMs() - watch.lastSignMonotonicMs,
      suspectDeadlineMs: watch.patience(this.#awareness.level).suspectAfterMs,
      mistakeCount: watch.mistakeCount,
      avertedCount: watch.avertedCount,
      evidence: [...watch.evidence.values()],
    };
  }

  /** The detector's doubt in itself, 0 (none) to MAX_AWARENESS. */
  get awarenessLevel(): number {
    return this.#awareness.level;
  }

  /** Stops judging; resolves when the last second opinion is in (at most its time-box). */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    this.#stopSweeping();
    this.#watches.clear();
    this.#byWorkspace.clear();
    await Promise.all(this.#opinions);
  }

  /** Listening time now. Every entry comes by here, so that a deaf spell is noticed before anything is judged. */
  #now(): number {
    const nowMs = this.#clock.monotonicMs();
    this.#time.tick(nowMs);
    return this.#time.at(nowMs);
  }

  /** A beat may have waited this long in its socket: no silence is judged by time our own loop may have taken. */
  #lagAllowanceMs(): number {
    return Math.min(this.#loopLagMs(), DEAF_AFTER_MS);
  }

  #sweep(): void {
    const nowMs = this.#now();
    const due: Watch[] = [];
    let watchedCount = 0;
    let lateCount = 0;
    for (const watch of this.#watches.values()) {
      if (watch.state === 'committed') continue;
      watchedCount += 1;
      if (nowMs < watch.dueMs) continue;
      due.push(watch);
      if (watch.state !== 'grace' && nowMs - watch.lastSignMs < LATELY_MS) lateCount += 1;
    }
    this.#checkSelf({ nowMs, watchedCount, lateCount });
    for (const watch of due) this.#judge(watch, nowMs);
  }

  #checkSelf(counts: { readonly nowMs: number; readonly watchedCount: number; readonly lateCount: number }): void {
    const next = nextAwareness(this.#awareness, counts);
    if (next.level > this.#awareness.level) {
      this.#log.warn(
        { event: 'detector-doubts-itself', level: next.level, ...counts },
        'detector stretches its deadlines',
      );
    }
    this.#awareness = next;
  }

  /** Books the silence that a sign of life is about to end. */
  #noteSilence(watch: Watch): void {
    const silenceMs = this.#now() - watch.lastSignMs;
    if (silenceMs < NOTABLE_SILENCE_MS || watch.state === 'grace' || watch.isAnnounced) return;
    const machine = watch.machine(this.#now());
    this.#journal?.silenceEnded(watch.instanceId, { silenceMs, machine, committed: false });
    watch.adapt(this.#clock.nowMs());
  }

  /** It was not dead: the mistake that costs most. By now it is fenced, so this is told once. */
  #noteReturn(instanceId: InstanceId): void {
    const givenUp = this.#givenUp.get(instanceId);
    if (givenUp === undefined) return;
    this.#givenUp.delete(instanceId);
    const { sinceMs, machine } = givenUp;
    this.#journal?.silenceEnded(instanceId, { silenceMs: this.#now() - sinceMs, machine, committed: true });
  }

  #giveUp({ instanceId, lastSignMs }: Watch, machine: MachineOpinion): void {
    this.#givenUp.set(instanceId, { sinceMs: lastSignMs, machine });
    const [oldest] = this.#givenUp.keys();
    if (this.#givenUp.size > MAX_GIVEN_UP && oldest !== undefined) this.#givenUp.delete(oldest);
  }

  #forgetWitness(watch: Watch): void {
    const workspaceId = watch.background?.workspaceId;
    if (workspaceId !== undefined && this.#byWorkspace.get(workspaceId) === watch)
      this.#byWorkspace.delete(workspaceId);
  }

  #heard(watch: Watch): void {
    if (watch.state === 'suspect' || watch.state === 'confirmed') {
      watch.mistakeCount += 1;
      if (watch.state === 'confirmed') watch.avertedCount += 1;
      this.#move(watch, 'heard');
    } else if (watch.state === 'grace') {
      this.#judge(watch, watch.lastSignMs);
    }
    if (watch.evidence.size > 0) watch.evidence.clear();
  }

  #judge(watch: Watch, nowMs: number): void {
    for (;;) {
      if (this.#watches.get(watch.instanceId) !== watch) return;
      const event = nextWatchEvent(watch.view(nowMs - this.#lagAllowanceMs(), this.#awareness.level));
      if (event === null) break;
      this.#prepare(watch, event, nowMs);
      this.#move(watch, event);
    }
    if (watch.wantsOpinion(nowMs, this.#awareness.level)) this.#ask(watch, nowMs);
  }

  #prepare(watch: Watch, event: WatchEvent, nowMs: number): void {
    if (event === 'settled') {
      // Nobody spoke yet: the end of the grace stands in for the first beat.
      if (watch.signs === 0) watch.sign(nowMs, this.#clock.monotonicMs());
      watch.dueMs = watch.lastSignMs + watch.patience(0).probeAfterMs;
    }
    if (event === 'overdue') {
      watch.evidence.set('silence', { kind: 'silence', hard: false, atMs: this.#clock.nowMs() });
      watch.refreshOpinion(nowMs);
    }
    this.#noteWitness(watch, nowMs);
    if (event === 'outlasted') this.#giveUp(watch, watch.machine(nowMs));
  }

  #noteWitness(watch: Watch, nowMs: number): void {
    const word = watch.witness(nowMs);
    watch.evidence.delete('standby-hears');
    watch.evidence.delete('standby-lost');
    if (word !== 'hears' && word !== 'lost') return;
    const kind = word === 'hears' ? 'standby-hears' : 'standby-lost';
    watch.evidence.set(kind, { kind, hard: false, atMs: this.#clock.nowMs() });
  }

  #move(watch: Watch, event: WatchEvent): void {
    const from = watch.state;
    watch.state = nextState(WATCH_TABLE, from, event);
    const silenceMs = this.#clock.monotonicMs() - watch.lastSignMonotonicMs;
    for (const kind of verdictsOf(from, watch.state)) {
      if (this.#watches.get(watch.instanceId) !== watch) return;
      this.#onVerdict({
        kind,
        instanceId: watch.instanceId,
        lastBeatAtMs: Math.round(this.#clock.nowMs() - silenceMs),
        silenceMs,
        evidence: [...watch.evidence.values()],
      });
    }
  }

  /** Starts one second opinion, unless too many run: the next sweep tries again. */
  #ask(watch: Watch, nowMs: number): void {
    if (this.#disposed || this.#opinions.size >= MAX_OPINIONS) return;
    watch.beginAsking(nowMs);
    const opinion = this.#gather(watch, watch.signs).finally(() => this.#opinions.delete(opinion));
    this.#opinions.add(opinion);
  }

  async #gather(watch: Watch, signs: number): Promise<void> {
    try {
      const found = await this.#corroborator.corroborate(watch.instanceId, this.#knobs.probeTimeoutMs);
      if (watch.signs === signs) {
        for (const evidence of found) watch.evidence.set(evidence.kind, evidence);
        watch.opinion = opinionOf(found);
      }
    } catch (error) {
      // Knowing nothing is the safe reading: the instance keeps the longer delays of `unknown`.
      this.#log.error({ event: 'corroboration-failed', instanceId: watch.instanceId, error }, 'no second opinion');
    }
    watch.asking = false;
    if (!this.#disposed) this.#judge(watch, this.#now());
  }
}

/** Fine enough to add at most 25 ms to a detection, coarse enough to cost nothing. */
const SWEEP_EVERY_MS = 25;

/** Ten times the fleet one process is built for; a bound on memory (about 2 KiB each). */
const MAX_WATCHED = 50_000;

/** Who may still come back; the oldest are dead indeed. */
const MAX_GIVEN_UP = 1_000;

/** Sockets in use by probes at once, when a whole zone falls silent. */
const MAX_OPINIONS = 256;

/** Who fell silent longer ago is dead for its own reasons and says nothing about our hearing. */
const LATELY_MS = 10_000;
