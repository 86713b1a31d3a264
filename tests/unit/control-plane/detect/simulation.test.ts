import { HeartbeatMonitor } from '@dumont/control-plane/detect/heartbeat-monitor.ts';
import type { Verdict } from '@dumont/control-plane/detect/verdict.ts';
import type { InstanceId } from '@dumont/shared/model/ids.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { seededRandom, type Random } from '@dumont/shared/util/random.ts';
import { expect, test } from 'vitest';
import { ManualClock } from '../../../world/manual-clock.ts';
import { evidence, heartbeat, newInstance } from './monitor-world.ts';

/**
 * A model of hosts and paths, not a measurement: jitter of a few ms, lost packets repaired by a retransmission that
 * delays everything behind it, agents that stall, and paths that fail for a while. Rates are per host and day.
 */
interface HostModel {
  readonly stallsPerDay: number;
  readonly outagesPerDay: number;
  readonly lossShare: number;
}

const GOOD: HostModel = { stallsPerDay: 144, outagesPerDay: 3, lossShare: 0.002 };
const NOISY: HostModel = { stallsPerDay: 600, outagesPerDay: 12, lossShare: 0.01 };

const DAY_MS = 86_400_000;
const INTERVAL_MS = 200;
const TICK_MS = 25;
/** Of the stalls, those that freeze the whole machine and so its banner port too. */
const FREEZE_SHARE = 0.2;
const RETRANSMIT_MS = 200;

/** One host's future, drawn beat by beat. */
class SimulatedHost {
  readonly id = newInstance();
  readonly #model: HostModel;
  readonly #random: Random;
  #sendAtMs: number;
  #lastArrivalMs = 0;
  #unreachableUntilMs = 0;
  /** Dies at this time: nothing sent later exists. */
  readonly diesAtMs: number;
  /** Arrivals in order, not yet delivered. */
  readonly arrivals: { readonly sentMs: number; readonly arrivalMs: number }[] = [];

  constructor(model: HostModel, random: Random, diesAtMs: number) {
    this.#model = model;
    this.#random = random;
    this.#sendAtMs = random.next() * INTERVAL_MS;
    this.diesAtMs = diesAtMs;
  }

  /** Draws beats until one arrives after `nowMs`. */
  drawUntil(nowMs: number): void {
    while (this.#sendAtMs < this.diesAtMs && (this.arrivals.at(-1)?.arrivalMs ?? 0) <= nowMs) this.#drawBeat();
  }

  /** Would the banner port answer now? */
  answersAt(nowMs: number): boolean {
    return nowMs < this.diesAtMs && nowMs >= this.#unreachableUntilMs;
  }

  #drawBeat(): void {
    const beatsPerDay = DAY_MS / INTERVAL_MS;
    if (this.#random.next() < this.#model.stallsPerDay / beatsPerDay) this.#stall();
    const sentMs = this.#sendAtMs;
    let arrivalMs = sentMs + 20 + 10 * this.#exponential();
    if (this.#random.next() < this.#model.outagesPerDay / beatsPerDay) {
      this.#unreachableUntilMs = sentMs + 1_500 * Math.exp(0.8 * this.#normal());
      arrivalMs = Math.max(arrivalMs, this.#unreachableUntilMs + RETRANSMIT_MS * this.#random.next());
    }
    for (let timeoutMs = RETRANSMIT_MS; this.#random.next() < this.#model.lossShare; timeoutMs *= 2) {
      arrivalMs += timeoutMs;
    }
    // TCP delivers in order: whoever is delayed delays everyone behind.
    arrivalMs = Math.max(arrivalMs, this.#lastArrivalMs);
    this.#lastArrivalMs = arrivalMs;
    this.arrivals.push({ sentMs, arrivalMs });
    this.#sendAtMs += INTERVAL_MS;
  }

  #stall(): void {
    const stallMs = 250 * Math.exp(0.9 * this.#normal());
    if (this.#random.next() < FREEZE_SHARE) this.#unreachableUntilMs = this.#sendAtMs + stallMs;
    this.#sendAtMs += stallMs;
  }

  #exponential(): number {
    return -Math.log(1 - this.#random.next());
  }

  #normal(): number {
    return Math.sqrt(2 * this.#exponential()) * Math.cos(2 * Math.PI * this.#random.next());
  }
}

async function simulate(setup: {
  readonly model: HostModel;
  readonly seed: number;
  readonly hostCount: number;
  readonly durationMs: number;
  readonly deathCount: number;
}) {
  const random = seededRandom(setup.seed);
  const clock = new ManualClock();
  const hosts = new Map<InstanceId, SimulatedHost>();
  for (let index = 0; index < setup.hostCount; index += 1) {
    const dies = index < setup.deathCount;
    const diesAtMs = dies ? setup.durationMs * (0.2 + 0.7 * random.next()) : Number.POSITIVE_INFINITY;
    const host = new SimulatedHost(setup.model, random, diesAtMs);
    hosts.set(host.id, host);
  }
  const verdicts: (Verdict & { readonly atMs: number })[] = [];
  const monitor = new HeartbeatMonitor({
    clock,
    log: createLogger('test', 'silent'),
    loopLagMs: () => 0,
    onVerdict: (verdict) => verdicts.push({ ...verdict, atMs: clock.monotonicMs() }),
    corroborator: {
      async corroborate(instanceId, timeoutMs) {
        const answers = () => hosts.get(instanceId)?.answersAt(clock.monotonicMs()) === true;
        if (answers()) return [evidence('probe-answered')];
        await clock.sleep(timeoutMs);
        return [evidence(answers() ? 'probe-answered' : 'probe-silent')];
      },
    },
  });
  for (const id of hosts.keys()) monitor.watch(id, { mode: 'fast', graceMs: 10_000 });
  for (let nowMs = 0; nowMs < setup.durationMs; nowMs += TICK_MS) {
    await clock.advance(TICK_MS);
    for (const host of hosts.values()) {
      host.drawUntil(nowMs + TICK_MS);
      for (
        let next = host.arrivals[0];
        next !== undefined && next.arrivalMs <= nowMs + TICK_MS;
        next = host.arrivals[0]
      ) {
        host.arrivals.shift();
        monitor.observe(host.id, heartbeat(next.sentMs), next.arrivalMs);
      }
    }
  }
  return { hosts, verdicts };
}

function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

/** From the death to the first verdict of this kind after it, per host. */
function detectionTimes(run: Awaited<ReturnType<typeof simulate>>, kind: Verdict['kind']): number[] {
  const dead = [...run.hosts.values()].filter((host) => Number.isFinite(host.diesAtMs));
  return dead.map((host) => {
    // A suspicion that the death found already standing was raised in time by definition.
    const first = run.verdicts.find((verdict) => {
      return verdict.instanceId === host.id && verdict.kind === kind && verdict.atMs >= host.diesAtMs;
    });
    return first === undefined ? 0 : first.atMs - host.diesAtMs;
  });
}

test('deaths in the stall model are suspected within 0.8 s and confirmed within 1.0 s at the 99th percentile', async () => {
  const setup = { model: GOOD, hostCount: 400, deathCount: 100, durationMs: 120_000 } as const;
  const runs = await Promise.all([1, 2, 3, 4].map((seed) => simulate({ ...setup, seed })));
  const suspectMs = runs.flatMap((run) => detectionTimes(run, 'suspect'));
  const confirmMs = runs.flatMap((run) => detectionTimes(run, 'confirm'));
  expect(suspectMs).toHaveLength(400);
  expect(percentile(suspectMs, 0.99)).toBeLessThan(800);
  expect(percentile(confirmMs, 0.99)).toBeLessThan(1_000);
  expect(percentile(confirmMs, 0.5)).toBeGreaterThan(400);
  expect(runs.flatMap((run) => detectionTimes(run, 'commit')).every((tookMs) => tookMs > 2_000)).toBe(true);
});

test.each([
  { name: 'good', model: GOOD, suspectsPerDay: 80, confirmsPerDay: 20, commitsPerDay: 2 },
  { name: 'noisy', model: NOISY, suspectsPerDay: 400, confirmsPerDay: 70, commitsPerDay: 6 },
])('healthy $name hosts are wronged at a bounded rate per day', async (bounds) => {
  const hostCount = 40;
  const durationMs = 4 * 3_600_000;
  const run = await simulate({ model: bounds.model, seed: 7, hostCount, deathCount: 0, durationMs });
  const hostDays = (hostCount * durationMs) / DAY_MS;
  const perDay = (kind: Verdict['kind']) => run.verdicts.filter((verdict) => verdict.kind === kind).length / hostDays;
  expect(perDay('suspect')).toBeLessThan(bounds.suspectsPerDay);
  expect(perDay('confirm')).toBeLessThan(bounds.confirmsPerDay);
  expect(perDay('commit')).toBeLessThan(bounds.commitsPerDay);
});
