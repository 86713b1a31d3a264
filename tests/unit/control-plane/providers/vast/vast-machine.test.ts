import { machineOf } from '@dumont/control-plane/providers/vast/vast-machine.ts';
import { instanceSchema } from '@dumont/control-plane/providers/vast/vast-schemas.ts';
import { expect, test } from 'vitest';

/** Actual, intended, current and next, as in the API's documentation. */
type Vector = readonly [string | null, string?, string?, string?];

function seen([actual_status, intended_status, cur_state, next_state]: Vector, more: object = {}) {
  return instanceSchema.parse({ id: 31600001, actual_status, intended_status, cur_state, next_state, ...more });
}

const UP = ['running', 'running', 'running'] as const;
const DOWN = ['stopped', 'stopped', 'stopped'] as const;

test.each([
  [[null, ...UP], 'pending'],
  [[null], 'pending'],
  [['created', ...UP], 'pending'],
  [['loading', ...UP], 'pending'],
  [['rebooting', ...UP], 'pending'],
  [['recycling', ...UP], 'pending'],
  [['running', ...UP], 'running'],
  [['exited', ...DOWN], 'interrupted'],
  [['stopped', ...DOWN], 'interrupted'],
  [['running', ...DOWN], 'interrupted'],
  [['created', ...DOWN], 'interrupted'],
  [['exited', 'running', 'stopped', 'running'], 'pending'],
  [['exited', ...UP], 'failed'],
  [['frozen', ...UP], 'failed'],
  [['offline', ...UP], 'unreachable'],
  [['unknown', ...UP], 'unreachable'],
  [['a-word-of-tomorrow', ...UP], 'pending'],
] as const)('%j is %s', (vector, status) => {
  expect(machineOf(seen(vector), false).status).toBe(status);
});

test('a machine that we stopped ourselves is stopped, not taken away', () => {
  expect(machineOf(seen(['exited', ...DOWN]), true).status).toBe('stopped');
});

test.each([
  ['created', 'Error response from daemon: failed to create task: OCI runtime create failed: runc', DOWN],
  ['loading', 'Error response from daemon: pull access denied for acme/private', UP],
  ['loading', 'manifest unknown', UP],
])('%s with "%s" will never come up', (actual, status_msg, states) => {
  expect(machineOf(seen([actual, ...states], { status_msg }), false)).toMatchObject({
    status: 'failed',
    rawStatus: actual,
    statusMessage: status_msg,
  });
});

test('a word that is new is running once there are ports', () => {
  expect(machineOf(seen(['snoozing', ...UP], { ports: {} }), false).status).toBe('running');
});

test('addresses are read from ports that are texts and an address with a newline', () => {
  const ports = {
    '22/tcp': [{ HostIp: '0.0.0.0', HostPort: '40022' }],
    '8080/tcp': [{ HostIp: '0.0.0.0', HostPort: '40081' }],
    '5353/udp': [{ HostIp: '0.0.0.0', HostPort: '40082' }],
    '70000/tcp': null,
  };
  const machine = machineOf(seen(['running', ...UP], { public_ipaddr: '203.0.113.25\n', ports }), false);
  expect(machine.ssh).toEqual({ host: '203.0.113.25', port: 40_022 });
  expect(machine.probe).toEqual(machine.ssh);
  expect([...machine.ports]).toEqual([[8080, { host: '203.0.113.25', port: 40_081 }]]);
});

test('without a direct port SSH goes by the proxy, which says nothing about the machine', () => {
  const machine = machineOf(seen(['running', ...UP], { ssh_host: 'ssh5.vast.ai', ssh_port: 10_001 }), false);
  expect(machine.ssh).toEqual({ host: 'ssh5.vast.ai', port: 10_001 });
  expect(machine.probe).toBeNull();
});

test('a row of nothing but an id is a machine all the same: it costs money', () => {
  const odd = { label: 7, ports: [], public_ipaddr: {}, is_bid: 'yes', status_msg: null };
  expect(machineOf(seen([null], odd), false)).toMatchObject({ ref: '31600001', label: '', status: 'pending' });
});
