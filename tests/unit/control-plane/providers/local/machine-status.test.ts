import { reportStatus, type MachineFacts } from '@dumont/control-plane/providers/local/machine-status.ts';
import { expect, test } from 'vitest';

const RUNNING: MachineFacts = {
  createdAtMs: 0,
  marks: { destroyed: null, killed: null, frozen: null, cut: null },
  host: 'alive',
  status: { phase: 'running', probePort: 4_000, sshPort: null, ports: [], network: 'up' },
  nowMs: 100_000,
  offlineAfterMs: 60_000,
};
const marked = (marks: Partial<MachineFacts['marks']>) =>
  reportStatus({ ...RUNNING, marks: { ...RUNNING.marks, ...marks } });

test('a healthy machine is running', () => {
  expect(reportStatus(RUNNING)).toEqual({ status: 'running', rawStatus: 'running', statusMessage: null });
});

test('a machine whose host has not spoken yet has no status', () => {
  expect(reportStatus({ ...RUNNING, status: null })).toMatchObject({ status: 'pending', rawStatus: null });
});

test('an order without a host is pending for half a minute, then failed', () => {
  expect(reportStatus({ ...RUNNING, host: 'none', nowMs: 29_999 }).status).toBe('pending');
  expect(reportStatus({ ...RUNNING, host: 'none', nowMs: 30_000 }).status).toBe('failed');
});

test('a silent machine is reported unreachable only after the provider’s delay, from the first silence on', () => {
  expect(marked({ frozen: 40_001 }).status).toBe('running');
  expect(marked({ frozen: 40_000 }).status).toBe('unreachable');
  expect(marked({ frozen: 99_999, cut: 40_000 }).status).toBe('unreachable');
});

test('a machine that was taken away is interrupted at once, one that is being destroyed is stopped', () => {
  expect(marked({ killed: 100_000 }).status).toBe('interrupted');
  expect(reportStatus({ ...RUNNING, host: 'dead' }).status).toBe('interrupted');
  expect(marked({ killed: 1, destroyed: 2 }).status).toBe('stopped');
});
