import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { superviseAgent, type AgentCommand } from '@dumont/control-plane/providers/local/agent-supervisor.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { eventually } from '../../../../conformance/provider-world.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dumont-supervisor-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

function shell(script: string): AgentCommand {
  return {
    command: ['/bin/sh', '-c', script],
    cwd: folder,
    environment: { PATH: process.env['PATH'] ?? '' },
    logPath: join(folder, 'agent.log'),
  };
}
const noJitter = { next: () => 0 };
const log = () => readFile(join(folder, 'agent.log'), 'utf8').catch(() => '');

test('starts a failing agent again and lets one that ended on purpose be', async () => {
  const script =
    'echo run; if [ -e twice ]; then exit 0; fi; if [ -e once ]; then touch twice; kill -9 $$; fi; touch once; exit 3';
  const { signal } = new AbortController();
  await superviseAgent(shell(script), { clock: systemClock, random: noJitter, signal });
  expect(await log()).toBe('run\nrun\nrun\n');
});

test('notes a command that cannot be started and goes on trying', async () => {
  const stop = new AbortController();
  const agent = { ...shell(''), command: [join(folder, 'missing')] };
  const supervising = superviseAgent(agent, { clock: systemClock, random: noJitter, signal: stop.signal });
  await eventually('two attempts', async () => (await log()).split('ENOENT').length > 2);
  stop.abort();
  await supervising;
});

test('asks the agent to end when aborted and waits until it did', async () => {
  const stop = new AbortController();
  const agent = shell('trap "echo bye; exit 1" TERM; echo up; while :; do sleep 0.01; done');
  const supervising = superviseAgent(agent, { clock: systemClock, random: noJitter, signal: stop.signal });
  await eventually('the agent to start', async () => (await log()) === 'up\n');
  stop.abort();
  await supervising;
  expect(await log()).toBe('up\nbye\n');
});
