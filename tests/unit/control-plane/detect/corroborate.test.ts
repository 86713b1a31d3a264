import {
  MachineCorroborator,
  providerEvidence,
  type MachineLocation,
} from '@dumont/control-plane/detect/corroborate.ts';
import { probeTcp } from '@dumont/control-plane/detect/tcp-prober.ts';
import type { MachineStatus, ProviderMachine } from '@dumont/control-plane/providers/provider.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { expect, test } from 'vitest';
import { ManualClock } from '../../../world/manual-clock.ts';
import { closedPort, newInstance, tcpServer } from './monitor-world.ts';

const instance = newInstance();

function machine(status: MachineStatus): ProviderMachine {
  return {
    ref: '1',
    label: 'one',
    status,
    rawStatus: status,
    statusMessage: null,
    probe: null,
    ssh: null,
    ports: new Map(),
  };
}

async function corroborate(location: MachineLocation | null | Error, timeoutMs = 250) {
  const corroborator = new MachineCorroborator({
    clock: systemClock,
    log: createLogger('test', 'silent'),
    locate: () => {
      if (location instanceof Error) throw location;
      return location;
    },
  });
  const startedMs = performance.now();
  const found = await corroborator.corroborate(instance, timeoutMs);
  return { kinds: found.map(({ kind, hard }) => (hard ? `${kind}!` : kind)), tookMs: performance.now() - startedMs };
}

test('a server that sends a banner answers', async () => {
  await using server = await tcpServer((socket) => socket.write('SSH-2.0-OpenSSH_9.9\r\n'));
  expect(await probeTcp(server, { timeoutMs: 2_000, clock: systemClock })).toBe('answered');
});

test('a port on which nobody listens refuses', async () => {
  expect(await probeTcp(await closedPort(), { timeoutMs: 2_000, clock: systemClock })).toBe('refused');
});

test('a server that accepts and says nothing is silent, and the probe keeps its time-box', async () => {
  await using server = await tcpServer(() => {});
  const startedMs = performance.now();
  expect(await probeTcp(server, { timeoutMs: 100, clock: systemClock })).toBe('silent');
  expect(performance.now() - startedMs).toBeLessThan(1_000);
});

test('a server that hangs up without a banner is tried again, and silent in the end', async () => {
  let connections = 0;
  await using server = await tcpServer((socket) => {
    connections += 1;
    socket.end();
  });
  expect(await probeTcp(server, { timeoutMs: 250, clock: systemClock })).toBe('silent');
  expect(connections).toBeGreaterThan(1);
});

test('a server that hangs up once because it is dying refuses the next try', async () => {
  const server = await tcpServer((socket) => {
    socket.destroy();
    void server[Symbol.asyncDispose]();
  });
  expect(await probeTcp(server, { timeoutMs: 2_000, clock: systemClock })).toBe('refused');
});

test('the provider of one instance is asked at most about once a second', async () => {
  let asked = 0;
  const show = () => {
    asked += 1;
    return Promise.resolve(null);
  };
  const log = createLogger('test', 'silent');
  const clock = new ManualClock();
  const corroborator = new MachineCorroborator({ clock, log, locate: () => ({ probe: null, show }) });
  expect(await corroborator.corroborate(instance, 250)).toHaveLength(1);
  expect(await corroborator.corroborate(instance, 250)).toEqual([]);
  expect(await corroborator.corroborate(newInstance(), 250)).toHaveLength(1);
  await clock.advance(1_000);
  expect(await corroborator.corroborate(instance, 250)).toHaveLength(1);
  expect(asked).toBe(3);
});

test('a host name that does not exist is silent, not an error', async () => {
  const target = { host: 'no-such-host.invalid', port: 22 };
  expect(await probeTcp(target, { timeoutMs: 250, clock: systemClock })).toBe('silent');
});

test('the machine and its provider are asked in parallel', async () => {
  const { host, port } = await closedPort();
  const show = () => Promise.resolve(machine('interrupted'));
  expect((await corroborate({ probe: { host, port }, show })).kinds).toEqual([
    'probe-refused!',
    'provider-interrupted!',
  ]);
});

test('a provider that no longer knows the machine is hard evidence, one that lost contact is soft', () => {
  expect(providerEvidence(null, 1)).toEqual({ kind: 'provider-gone', hard: true, atMs: 1 });
  expect(providerEvidence(machine('failed'), 1)).toMatchObject({ kind: 'provider-failed', hard: true });
  expect(providerEvidence(machine('unreachable'), 1)).toMatchObject({ kind: 'provider-unreachable', hard: false });
  for (const status of ['pending', 'running', 'stopped'] as const)
    expect(providerEvidence(machine(status), 1)).toBeNull();
});

test('a provider that hangs or fails costs no more than the time-box and adds nothing', async () => {
  await using server = await tcpServer((socket) => socket.write('hello'));
  const hanging = await corroborate({ probe: server, show: () => new Promise(() => {}) }, 150);
  expect(hanging.kinds).toEqual(['probe-answered']);
  expect(hanging.tookMs).toBeLessThan(1_000);
  const failing = await corroborate({ probe: server, show: () => Promise.reject(new Error('502')) });
  expect(failing.kinds).toEqual(['probe-answered']);
});

test('an instance whose machine is unknown gives no evidence at all', async () => {
  expect((await corroborate(null)).kinds).toEqual([]);
  expect((await corroborate({ probe: null, show: null })).kinds).toEqual([]);
  expect((await corroborate(new Error('database is gone'))).kinds).toEqual([]);
});
