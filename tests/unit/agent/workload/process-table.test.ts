import { spawn } from 'node:child_process';
import { hasEnvironment, listProcesses, parseProcessStat, readProcess } from '@dumont/agent/workload/process-table.ts';
import { expect, test } from 'vitest';
import { eventually } from '../../../world/eventually.ts';

test('a command name with spaces and parentheses does not shift the fields', () => {
  const tail = '1 4321 4321 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 2 3';
  expect(parseProcessStat(`4321 (a) b (c)) S ${tail}`)).toEqual({
    pid: 4321,
    groupId: 4321,
    startTicks: 987_654,
    isZombie: false,
  });
  expect(parseProcessStat(`4321 (x) Z ${tail}`)?.isZombie).toBe(true);
});

test.each(['', 'nonsense', '12 (x'])('text that is not a stat line gives nothing: %j', (text) => {
  expect(parseProcessStat(text)).toBeNull();
});

test('a real process is found with its group and its environment, and not any more after its end', async () => {
  const child = spawn('sleep', ['60'], { env: { MARK: 'yes' }, detached: true, stdio: 'ignore' });
  const pid = child.pid ?? 0;
  try {
    await eventually('the environment is there', () => hasEnvironment(pid, 'MARK', 'yes'));
    expect(await readProcess(pid)).toMatchObject({ pid, groupId: pid });
    expect((await listProcesses()).map((row) => row.pid)).toContain(pid);
    expect(await hasEnvironment(pid, 'MARK', 'no')).toBe(false);
  } finally {
    child.kill('SIGKILL');
  }
  await eventually('the process is gone', async () => (await readProcess(pid)) === null);
});
