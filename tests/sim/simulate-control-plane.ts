import { HeartbeatMonitor } from '@dumont/control-plane/detect/heartbeat-monitor.ts';
import type { Verdict } from '@dumont/control-plane/detect/verdict.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import type { DetectMode } from '@dumont/shared/model/policy.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import { HostModel, type SimBeat } from './host-model.ts';
import { SimClock } from './sim-clock.ts';
import { end, heartbeat } from './simulate-host.ts';

export interface ControlPlaneTrouble {
  readonly pauses: number;
  readonly restarts: number;
  /** Verdicts on a fleet that was well all the time. */
  readonly suspects: number;
  readonly confirms: number;
  readonly commits: number;
}

const log = createLogger('sim', 'silent');
/** Hosts without stalls, outages and losses: whatever is said of them is the control plane's own doing. */
const CALM = { stallsPerDay: 0, outagesPerDay: 0, lossShare: 0 };
const FLEET = 20;
const PAUSE_MS = 2_000;
const CYCLE_MS = 15_000;

/**
 * A control plane that is stopped for 2 s (every odd cycle) or killed and started again (every even one), in the worst
 * order: its timers fire before it reads what waits in its sockets. Nobody answers its probes meanwhile.
 */
export async function simulateControlPlane(
  mode: DetectMode,
  random: Random,
  cycles: number,
): Promise<ControlPlaneTrouble> {
  const clock = new SimClock();
  const counts = { suspect: 0, confirm: 0, commit: 0, alive: 0 };
  const hosts = Array.from({ length: FLEET }, () => {
    const model = new HostModel(CALM, random, { leaps: false });
    return { id: newId('instance'), model, beat: model.next() };
  });
  const start = () => {
    const monitor = new HeartbeatMonitor({
      clock,
      log,
      loopLagMs: () => 0,
      onVerdict: ({ kind }: Verdict) => void (counts[kind] += 1),
      corroborator: {
        async corroborate(_id, timeoutMs) {
          await clock.sleep(timeoutMs);
          return [{ kind: 'probe-silent', hard: false, atMs: clock.nowMs() }];
        },
      },
    });
    for (const { id } of hosts) monitor.watch(id, { mode, graceMs: 10_000 });
    return monitor;
  };
  let monitor = start();
  const deliverUntil = async (untilMs: number) => {
    for (let next = earliest(hosts); next.beat.arrivalMs <= untilMs; next = earliest(hosts)) {
      await clock.run(Math.max(clock.monotonicMs(), next.beat.arrivalMs));
      monitor.observe(next.id, heartbeat(next.beat.sentMs), clock.monotonicMs());
      next.beat = next.model.next();
    }
    await clock.run(untilMs);
  };
  for (let cycle = 0; cycle < cycles; cycle += 1) {
    await deliverUntil(clock.monotonicMs() + CYCLE_MS + 1_000 * random.next());
    if (cycle % 2 === 0) {
      clock.stop(PAUSE_MS);
      // One round of timers before the first socket is read.
      await clock.run(clock.monotonicMs() + 1);
      continue;
    }
    await end(monitor, clock);
    clock.stop(500 + 4_500 * random.next());
    // What was sent to the process that is gone is lost.
    for (const host of hosts) while (host.beat.arrivalMs < clock.monotonicMs()) host.beat = host.model.next();
    monitor = start();
    for (const { id } of hosts) monitor.connected(id);
  }
  await end(monitor, clock);
  const restarts = Math.floor(cycles / 2);
  const { suspect: suspects, confirm: confirms, commit: commits } = counts;
  return { pauses: cycles - restarts, restarts, suspects, confirms, commits };
}

function earliest<Host extends { readonly beat: SimBeat }>(hosts: readonly Host[]): Host {
  return hosts.reduce((first, host) => (host.beat.arrivalMs < first.beat.arrivalMs ? host : first));
}
