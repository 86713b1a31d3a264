import { HeartbeatMonitor } from '@dumont/control-plane/detect/heartbeat-monitor.ts';
import { StallHistory } from '@dumont/control-plane/detect/stall-history.ts';
import type { Corroborator, Evidence, Verdict } from '@dumont/control-plane/detect/verdict.ts';
import { newId, type WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { DetectMode } from '@dumont/shared/model/policy.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import type { Heartbeat } from '@dumont/shared/protocol/heartbeat.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import { BEAT_MS, DAY_MS, HostModel, type HostProfile } from './host-model.ts';
import { SimClock } from './sim-clock.ts';

export interface HostSetup {
  readonly profile: HostProfile;
  readonly mode: DetectMode;
  readonly hasStandby: boolean;
}

/** What the detector said of a host that was well all the time. */
export interface Mistakes {
  hostDays: number;
  suspects: number;
  confirms: number;
  /** Machines given up that were well. */
  commits: number;
  /** Time under suspicion, ms. */
  wrongMs: number;
}

const log = createLogger('sim', 'silent');
const EPOCH = 1;

/** One healthy host for some days under the real detector. */
export async function simulateHost(setup: HostSetup, random: Random, days: number): Promise<Mistakes> {
  const clock = new SimClock();
  const model = new HostModel(setup.profile, random, { leaps: true });
  const instanceId = newId('instance');
  const workspaceId = newId('workspace');
  const history = new StallHistory(null, clock.nowMs());
  const mistakes: Mistakes = { hostDays: 0, suspects: 0, confirms: 0, commits: 0, wrongMs: 0 };
  let suspectAtMs: number | null = null;
  const onVerdict = ({ kind }: Verdict) => {
    if (kind === 'suspect') suspectAtMs = clock.monotonicMs();
    if (kind === 'suspect') mistakes.suspects += 1;
    if (kind === 'confirm') mistakes.confirms += 1;
    if (kind === 'commit') mistakes.commits += 1;
    if (kind === 'alive' && suspectAtMs !== null) mistakes.wrongMs += clock.monotonicMs() - suspectAtMs;
  };
  const monitor = new HeartbeatMonitor({
    clock,
    log,
    loopLagMs: () => 0,
    onVerdict,
    corroborator: probing(model, clock, () => true),
    journal: {
      watched: () => monitor.introduce(instanceId, { workspaceId, epoch: EPOCH, history }),
      unwatched: () => {},
      silenceEnded: (_, silence) => history.ended(silence, clock.nowMs()),
    },
  });
  monitor.watch(instanceId, { mode: setup.mode, graceMs: 10_000 });
  if (setup.hasStandby) startReports({ clock, monitor, workspaceId, model, random });
  let leaptMs = 0;
  let bookedMs = 0;
  while (clock.monotonicMs() + leaptMs < days * DAY_MS) {
    const beat = model.next();
    leaptMs += beat.leapMs;
    clock.leap(beat.leapMs);
    await clock.run(beat.arrivalMs);
    if (beat.leapMs > 0) {
      const aliveMs = clock.monotonicMs() + leaptMs;
      history.watched(aliveMs - bookedMs, clock.nowMs());
      bookedMs = aliveMs;
      monitor.adapt(instanceId);
    }
    if (monitor.status(instanceId)?.state === 'committed') {
      // It comes back, fenced; here it goes on as another life of the same host.
      if (suspectAtMs !== null) mistakes.wrongMs += clock.monotonicMs() - suspectAtMs;
      monitor.connected(instanceId);
      monitor.watch(instanceId, { mode: setup.mode, graceMs: 10_000 });
    }
    monitor.observe(instanceId, heartbeat(beat.sentMs), beat.arrivalMs);
  }
  await end(monitor, clock);
  mistakes.hostDays = (clock.monotonicMs() + leaptMs) / DAY_MS;
  return mistakes;
}

/** From the death to the verdicts, ms. */
export interface Detection {
  readonly suspectMs: number;
  readonly confirmMs: number;
  readonly commitMs: number;
}

/** How a host dies: without a word, or so that its port refuses and its connections break. */
export type DeathKind = 'silent' | 'refusing';

/** One host that dies at a random moment, in an ordinary minute. */
export async function simulateDeath(setup: HostSetup, kind: DeathKind, random: Random): Promise<Detection> {
  const clock = new SimClock();
  const model = new HostModel(setup.profile, random, { leaps: false });
  const instanceId = newId('instance');
  const workspaceId = newId('workspace');
  const diesAtMs = 10_000 + 20_000 * random.next();
  const isAlive = () => clock.monotonicMs() < diesAtMs;
  const heardAtMs = new Map<Verdict['kind'], number>();
  const monitor = new HeartbeatMonitor({
    clock,
    log,
    loopLagMs: () => 0,
    onVerdict: (verdict) => {
      // A suspicion that the death found already standing was raised in time by definition.
      if (verdict.kind === 'alive') heardAtMs.clear();
      else heardAtMs.set(verdict.kind, Math.max(clock.monotonicMs(), diesAtMs));
    },
    corroborator: probing(model, clock, isAlive, kind),
  });
  monitor.watch(instanceId, { mode: setup.mode, graceMs: 10_000 });
  const history = new StallHistory(null, clock.nowMs());
  monitor.introduce(instanceId, { workspaceId, epoch: EPOCH, history });
  if (setup.hasStandby) startReports({ clock, monitor, workspaceId, model, random, diesAtMs });
  for (let beat = model.next(); beat.sentMs < diesAtMs; beat = model.next()) {
    // What was lost or held back on its way is not sent again by the dead.
    if (beat.arrivalMs > diesAtMs + MAX_TRIP_MS) break;
    await clock.run(beat.arrivalMs);
    monitor.observe(instanceId, heartbeat(beat.sentMs), beat.arrivalMs);
  }
  if (kind === 'refusing') {
    await clock.run(diesAtMs + model.pathMs());
    monitor.disconnected(instanceId, { abrupt: true });
  }
  await clock.run(diesAtMs + 130_000);
  await end(monitor, clock);
  const after = (verdict: Verdict['kind']) => (heardAtMs.get(verdict) ?? Number.POSITIVE_INFINITY) - diesAtMs;
  return { suspectMs: after('suspect'), confirmMs: after('confirm'), commitMs: after('commit') };
}

/** A monitor ends when its last probe is back, which takes virtual time. */
export async function end(monitor: HeartbeatMonitor, clock: SimClock): Promise<void> {
  const ended = monitor[Symbol.asyncDispose]();
  await clock.run(clock.monotonicMs() + 1_000);
  await ended;
}

/** The machine's banner port, seen over the path: two round trips of 20 ms and more until it answers. */
function probing(
  model: HostModel,
  clock: SimClock,
  isAlive: () => boolean,
  deathKind: DeathKind = 'silent',
): Corroborator {
  const evidence = (kind: Evidence['kind'], hard = false) => [{ kind, hard, atMs: clock.nowMs() }];
  return {
    async corroborate(_instanceId, timeoutMs) {
      const tripMs = model.pathMs() + model.pathMs();
      if (!isAlive() && deathKind === 'refusing') {
        await clock.sleep(tripMs);
        return evidence('probe-refused', true);
      }
      if (model.answersAt(clock.monotonicMs()) && isAlive()) {
        await clock.sleep(Math.min(2 * tripMs, timeoutMs));
        return evidence('probe-answered');
      }
      await clock.sleep(timeoutMs);
      return evidence(model.answersAt(clock.monotonicMs()) && isAlive() ? 'probe-answered' : 'probe-silent');
    },
  };
}

/** A standby that beats without disturbances of its own and says when it heard its primary. */
function startReports(parts: {
  readonly clock: SimClock;
  readonly monitor: HeartbeatMonitor;
  readonly workspaceId: WorkspaceId;
  readonly model: HostModel;
  readonly random: Random;
  readonly diesAtMs?: number;
}): void {
  const { clock, monitor, workspaceId, model, random, diesAtMs = Number.POSITIVE_INFINITY } = parts;
  clock.after(random.next() * BEAT_MS, () => {
    clock.every(BEAT_MS, () => {
      const nowMs = clock.monotonicMs();
      // The agent looks every 100 ms, and its newest look goes out with the beat.
      const lookedAtMs = nowMs - model.pathMs() - LOOK_EVERY_MS * random.next();
      const heardAtMs = model.heardByStandby(Math.min(lookedAtMs, diesAtMs + LAST_TRIP_MS));
      monitor.testify(workspaceId, { epoch: EPOCH, heardMsAgo: Math.max(0, lookedAtMs - heardAtMs) }, nowMs);
    });
  });
}

export function heartbeat(monotonicMs: number): Heartbeat {
  const rest = { epoch: EPOCH, mainLagMs: 0, gpuUtilPct: null, unsavedMs: 0, workload: 'running' } as const;
  return { kind: 'heartbeat', seq: 0, monotonicMs, ...rest };
}

const LOOK_EVERY_MS = 100;
/** What a dying machine sent last is still on its way. */
const LAST_TRIP_MS = 30;
const MAX_TRIP_MS = 100;
