import { mkdir, mkdtemp, readdir, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises';
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

test('an agent that wants to be restarted is started again at once, however often', async () => {
  const script = 'echo run; echo x >> count; if [ $(wc -l < count) -lt 20 ]; then exit 75; fi; exit 0';
  const clock = { ...systemClock, sleep: () => Promise.reject(new Error('it waited')) };
  const { signal } = new AbortController();
  await superviseAgent(shell(script), { clock, random: noJitter, signal });
  expect((await log()).split('run').length).toBe(21);
});

test('an agent whose credential is refused is left alone for a minute', async () => {
  const waits: number[] = [];
  const stop = new AbortController();
  const clock = {
    ...systemClock,
    sleep: (ms: number) => {
      waits.push(ms);
      stop.abort();
      return Promise.resolve();
    },
  };
  await superviseAgent(shell('exit 77'), { clock, random: noJitter, signal: stop.signal });
  expect(waits).toEqual([60_000]);
});

/** Version 2 is current, and its upgrade from version 1 pending. */
async function upgradedAgent(second: string): Promise<AgentCommand> {
  const [prefix, stateDir] = [join(folder, 'prefix'), join(folder, 'state')];
  await mkdir(stateDir);
  for (const [version, script] of [
    ['1', 'echo old; exit 0'],
    ['2', second],
  ] as const) {
    await mkdir(join(prefix, 'versions', version), { recursive: true });
    const path = join(prefix, 'versions', version, 'dumont-agent');
    await writeFile(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  }
  await symlink(join('versions', '2'), join(prefix, 'current'));
  await writeFile(join(stateDir, 'upgrade.pending'), 'from=1\nto=2\n');
  const command = [join(prefix, 'current', 'dumont-agent')];
  return { ...shell(''), command, installation: { prefix, stateDir } };
}

const current = () => readlink(join(folder, 'prefix', 'current'));
const note = (name: string) => readFile(join(folder, 'state', name), 'utf8');

test('a new version that fails twice is rolled back, and the old one is started with the reason', async () => {
  const agent = await upgradedAgent('echo new; exit 9');
  await superviseAgent(agent, { clock: systemClock, random: noJitter, signal: new AbortController().signal });
  expect(await log()).toBe('new\nnew\nold\n');
  expect(await current()).toBe(join('versions', '1'));
  expect(await note('upgrade.failed')).toBe('from=1\nto=2\nreason=it ended with exit code 9 twice\n');
  expect(await readdir(join(folder, 'state'))).toEqual(['upgrade.failed']);
});

test('a new version that is not welcomed in time is killed and rolled back', async () => {
  const agent = await upgradedAgent("trap '' TERM; echo new; while :; do sleep 0.01; done");
  const options = { clock: systemClock, random: noJitter, signal: new AbortController().signal };
  await superviseAgent(agent, { ...options, upgradeDeadlineMs: 300 });
  expect(await log()).toBe('new\nold\n');
  expect(await note('upgrade.failed')).toContain('not welcomed within 300 ms');
});

test('a new version that was welcomed may fail like any other', async () => {
  const script = `rm -f ${join(folder, 'state', 'upgrade.pending')}; echo new; echo x >> count; if [ $(wc -l < count) -lt 4 ]; then exit 9; fi; exit 0`;
  const agent = await upgradedAgent(script);
  await superviseAgent(agent, { clock: systemClock, random: noJitter, signal: new AbortController().signal });
  expect(await log()).toBe('new\nnew\nnew\nnew\n');
  expect(await current()).toBe(join('versions', '2'));
});
