import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { HeartbeatMonitor } from '@dumont/control-plane/detect/heartbeat-monitor.ts';
import type { SuspicionKnobs } from '@dumont/control-plane/detect/suspicion.ts';
import type { Evidence, Verdict } from '@dumont/control-plane/detect/verdict.ts';
import { newId, type InstanceId } from '@dumont/shared/model/ids.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import type { Heartbeat } from '@dumont/shared/protocol/heartbeat.ts';
import { ManualClock } from '../../../world/manual-clock.ts';

/** A monitor on a manual clock whose second opinions are scripted: what matters here is the arithmetic of time. */
export function monitorWorld(knobs?: SuspicionKnobs) {
  const clock = new ManualClock();
  const verdicts: (Verdict & { readonly monotonicMs: number })[] = [];
  const asked: number[] = [];
  /** Silences that ended with a sign of life, and those that ended after a commit. */
  const silences: object[] = [];
  const returns: object[] = [];
  const script = {
    /** What the second opinion finds, and after how long. */
    find: (_instanceId: InstanceId): readonly Evidence['kind'][] => ['probe-silent'],
    takesMs: 250,
    loopLagMs: 0,
  };
  const monitor = new HeartbeatMonitor({
    clock,
    log: createLogger('test', 'silent'),
    loopLagMs: () => script.loopLagMs,
    journal: {
      watched: () => {},
      unwatched: () => {},
      silenceEnded: (_, silence) => void (silence.committed ? returns : silences).push(silence),
    },
    onVerdict: (verdict) => verdicts.push({ ...verdict, monotonicMs: clock.monotonicMs() }),
    corroborator: {
      async corroborate(instanceId) {
        asked.push(clock.monotonicMs());
        if (script.takesMs > 0) await clock.sleep(script.takesMs);
        return script.find(instanceId).map((kind) => evidence(kind, clock.nowMs()));
      },
    },
    ...(knobs === undefined ? {} : { knobs }),
  });
  const beat = (instanceId: InstanceId) => {
    const nowMs = clock.monotonicMs();
    monitor.observe(instanceId, heartbeat(nowMs), nowMs);
  };
  /** Lets time pass while the instance beats; the last beat falls on the last multiple of the interval. */
  const beatFor = async (instanceId: InstanceId, durationMs: number, intervalMs = 200) => {
    for (let passedMs = 0; passedMs < durationMs; passedMs += intervalMs) {
      await clock.advance(intervalMs);
      beat(instanceId);
    }
  };
  const course = () => verdicts.map(({ kind, monotonicMs }) => `${kind} ${monotonicMs}`);
  return { clock, monitor, verdicts, asked, silences, returns, script, beat, beatFor, course };
}

const HARD: ReadonlySet<Evidence['kind']> = new Set([
  'probe-refused',
  'provider-gone',
  'provider-interrupted',
  'provider-failed',
]);

export function evidence(kind: Evidence['kind'], atMs = 0): Evidence {
  return { kind, hard: HARD.has(kind), atMs };
}

export function heartbeat(monotonicMs: number, seq = 0): Heartbeat {
  const rest = { epoch: 1, mainLagMs: 0, gpuUtilPct: null, unsavedMs: 0, workload: 'running' } as const;
  return { kind: 'heartbeat', seq, monotonicMs, ...rest };
}

export function newInstance(): InstanceId {
  return newId('instance');
}

/** A real TCP server on a free port that treats each connection as told. */
export async function tcpServer(onConnection: (socket: Socket) => void) {
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    onConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    host: '127.0.0.1',
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A port of this computer on which nobody listens. */
export async function closedPort() {
  const { host, port, ...server } = await tcpServer(() => {});
  await server[Symbol.asyncDispose]();
  return { host, port };
}
