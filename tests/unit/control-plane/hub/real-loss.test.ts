import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { MachineCorroborator } from '@dumont/control-plane/detect/corroborate.ts';
import { HeartbeatMonitor } from '@dumont/control-plane/detect/heartbeat-monitor.ts';
import type { Verdict } from '@dumont/control-plane/detect/verdict.ts';
import type { HubListener } from '@dumont/control-plane/hub/hub-listener.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { expect, test } from 'vitest';
import { helloOf, hubWorld } from './hub-world.ts';

/** The bounds hold on a machine that is not overloaded; other tests run beside these. */
const TIMED = { retry: 2 };

const MACHINE = fileURLToPath(new URL('beating-machine.ts', import.meta.url));

/** Real sockets, a real process as the machine, real time. */
async function lossWorld() {
  const instance = newId('instance');
  const log = createLogger('test', 'silent');
  const verdicts = new Map<Verdict['kind'], { readonly verdict: Verdict; readonly monotonicMs: number }>();
  let wake = () => {};
  let probe: { host: string; port: number } | null = null;
  const monitor = new HeartbeatMonitor({
    clock: systemClock,
    log,
    loopLagMs: () => 0,
    corroborator: new MachineCorroborator({ clock: systemClock, log, locate: () => ({ probe, show: null }) }),
    onVerdict: (verdict) => {
      verdicts.set(verdict.kind, { verdict, monotonicMs: performance.now() });
      wake();
    },
  });
  const listener: HubListener = {
    connected: (id) => {
      monitor.connected(id);
      wake();
    },
    disconnected: (id, info) => monitor.disconnected(id, info),
    heartbeat: (id, beat, receivedMonotonicMs) => {
      monitor.observe(id, beat, receivedMonotonicMs);
      wake();
    },
    sample: () => {},
    notice: () => {},
  };
  const world = await hubWorld({ listener });
  monitor.watch(instance, { mode: 'fast', graceMs: 10_000 });
  const machine = spawn(process.execPath, [MACHINE, world.url, JSON.stringify(helloOf(instance))], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(machine, 'exit');
  const [line] = (await once(machine.stdout, 'data')) as [Buffer];
  probe = { host: '127.0.0.1', port: Number(line.toString('utf8')) };
  const until = async (isSo: () => boolean) => {
    while (!isSo()) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  };
  await until(() => monitor.status(instance)?.state === 'alive');
  return {
    machine,
    verdicts,
    state: () => monitor.status(instance)?.state,
    verdict: async (kind: Verdict['kind']) => {
      await until(() => verdicts.has(kind));
      return verdicts.get(kind);
    },
    async [Symbol.asyncDispose]() {
      machine.kill('SIGKILL');
      await exited;
      await monitor[Symbol.asyncDispose]();
      await world[Symbol.asyncDispose]();
    },
  };
}

test(
  'a machine that freezes is suspected and confirmed within a second, and taken back when it thaws',
  TIMED,
  async () => {
    await using world = await lossWorld();
    const frozenMs = performance.now();
    world.machine.kill('SIGSTOP');
    const confirm = await world.verdict('confirm');
    expect(world.verdicts.get('suspect')?.monotonicMs).toBeLessThan(frozenMs + 800);
    expect(confirm?.monotonicMs).toBeLessThan(frozenMs + 1_000);
    expect(confirm?.verdict.evidence.map(({ kind }) => kind).sort()).toEqual(['probe-silent', 'silence']);
    world.machine.kill('SIGCONT');
    await world.verdict('alive');
    expect(world.state()).toBe('alive');
  },
);

test('a machine that is killed is given up within 150 ms, because its port refuses', TIMED, async () => {
  await using world = await lossWorld();
  const killedMs = performance.now();
  world.machine.kill('SIGKILL');
  const commit = await world.verdict('commit');
  expect(commit?.monotonicMs).toBeLessThan(killedMs + 150);
  expect(commit?.verdict.evidence.map(({ kind }) => kind)).toEqual(['socket-closed', 'probe-refused']);
});
