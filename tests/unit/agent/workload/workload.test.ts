import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runHook } from '@dumont/agent/workload/hook.ts';
import { hasEnvironment, listProcesses, readProcess } from '@dumont/agent/workload/process-table.ts';
import { Workload } from '@dumont/agent/workload/workload.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { expect, test } from 'vitest';
import { eventually } from '../../../world/eventually.ts';
import { makeTempFolder } from '../../../world/temp-folder.ts';

const never = new AbortController().signal;
const environment = { PATH: process.env['PATH'] ?? '' };

/** A workload in a folder of its own; ends with everything it started at the end of the scope. */
async function workloadIn(path: string, logLimitBytes?: number) {
  const states: string[] = [];
  const workload = new Workload({
    workspaceDir: path,
    stateDir: path,
    environment,
    clock: systemClock,
    random: seededRandom(1),
    log: createLogger('test', 'silent'),
    onState: (state: string) => states.push(state),
    restart: { baseMs: 20, capMs: 40 },
    ...(logLimitBytes === undefined ? {} : { logLimitBytes }),
  });
  const end = async () => {
    await workload.stop(0);
    await workload[Symbol.asyncDispose]();
  };
  return { workload, states, [Symbol.asyncDispose]: end };
}

async function lines(path: string): Promise<string[]> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return text.split('\n').filter((line) => line !== '');
}

test('a command that stays up is started in the workspace folder, with its output in the log', async () => {
  await using folder = await makeTempFolder();
  await using run = await workloadIn(folder.path);
  const { workload, states } = run;
  const command = 'pwd; echo "dir $DUMONT_WORKSPACE_DIR"; echo oops >&2; exec sleep 60';
  await workload.start({ command, restart: true }, { stableMs: 100, signal: never });
  expect(states).toEqual(['running']);
  expect(workload.pid).toBeGreaterThan(1);
  expect(await lines(workload.logPath)).toEqual([folder.path, `dir ${folder.path}`, 'oops']);
});

test('starting twice leaves one copy', async () => {
  await using folder = await makeTempFolder();
  await using run = await workloadIn(folder.path);
  const spec = { command: 'echo one; exec sleep 60', restart: true };
  await Promise.all([
    run.workload.start(spec, { stableMs: 50, signal: never }),
    run.workload.start(spec, { stableMs: 50, signal: never }),
  ]);
  expect(await lines(run.workload.logPath)).toEqual(['one']);
});

test('a command that fails before it is stable is an error with its last words, and is tried again meanwhile', async () => {
  await using folder = await makeTempFolder();
  await using run = await workloadIn(folder.path);
  const command = 'echo "no such model"; exit 3';
  await expect(
    run.workload.start({ command, restart: true }, { stableMs: 5_000, signal: never }),
  ).rejects.toMatchObject({
    code: 'WORKLOAD',
    message: expect.stringMatching(/exit code 3.*no such model/) as string,
  });
  await eventually('it was tried three times', async () => (await lines(run.workload.logPath)).length >= 3);
  expect(run.states.slice(0, 4)).toEqual(['running', 'restarting', 'running', 'restarting']);
});

test('without restart a failure is final', async () => {
  await using folder = await makeTempFolder();
  await using run = await workloadIn(folder.path);
  const start = run.workload.start({ command: 'exit 1', restart: false }, { stableMs: 5_000, signal: never });
  await expect(start).rejects.toMatchObject({ code: 'WORKLOAD' });
  expect(run.states).toEqual(['running', 'failed']);
});

test('a command that ends well is not started again', async () => {
  await using folder = await makeTempFolder();
  await using run = await workloadIn(folder.path);
  await run.workload.start({ command: 'echo done', restart: true }, { stableMs: 5_000, signal: never });
  await eventually('it exited', () => run.workload.state === 'exited');
  expect(run.workload.pid).toBeNull();
  expect(await lines(run.workload.logPath)).toEqual(['done']);
});

test('a stop ends children, grandchildren in sessions of their own, and what ignores SIGTERM', async () => {
  await using folder = await makeTempFolder();
  await using run = await workloadIn(folder.path);
  const command = "trap '' TERM; sleep 61 & setsid sleep 62 & echo ready; while :; do sleep 0.1; done";
  await run.workload.start({ command, restart: true }, { stableMs: 0, signal: never });
  await eventually('it runs', async () => (await lines(run.workload.logPath)).includes('ready'));
  await run.workload.stop(100);
  expect(run.workload.state).toBe('stopped');
  const left = await Promise.all((await listProcesses()).map(({ pid }) => commandLine(pid)));
  expect(left.filter((line) => /^sleep 6[12]$/.test(line))).toEqual([]);
  await expect(stat(join(folder.path, 'workload.pid'))).rejects.toMatchObject({ code: 'ENOENT' });
});

test('the time to stop in good order is granted', async () => {
  await using folder = await makeTempFolder();
  await using run = await workloadIn(folder.path);
  const command = "trap 'sleep 0.2; echo saved; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
  await run.workload.start({ command, restart: true }, { stableMs: 0, signal: never });
  await eventually('it runs', async () => (await lines(run.workload.logPath)).includes('ready'));
  await run.workload.stop(10_000);
  expect(await lines(run.workload.logPath)).toContain('saved');
});

test('what a killed supervisor left running is ended before a new copy starts', async () => {
  await using folder = await makeTempFolder();
  const child = spawn(process.execPath, [join(import.meta.dirname, 'supervise.ts'), folder.path], { stdio: 'ignore' });
  const left = await leftover(folder.path, child);
  expect(await readProcess(left)).not.toBeNull();
  await using run = await workloadIn(folder.path);
  await run.workload.start({ command: 'echo second; exec sleep 60', restart: true }, { stableMs: 50, signal: never });
  expect((await readProcess(left))?.isZombie ?? true).toBe(true);
  expect(run.workload.pid).not.toBe(left);
});

test('what a killed supervisor left running is adopted untouched, noticed when it ends, and judged like a child', async () => {
  await using folder = await makeTempFolder();
  const child = spawn(process.execPath, [join(import.meta.dirname, 'supervise.ts'), folder.path], { stdio: 'ignore' });
  const left = await leftover(folder.path, child);
  await using run = await workloadIn(folder.path);
  const spec = { command: 'echo second; exec sleep 60', restart: true };
  expect(await run.workload.adopt(spec)).toBe(true);
  expect(run.workload.pid).toBe(left);
  await run.workload.start(spec, { stableMs: 0, signal: never });
  expect([run.workload.pid, run.states]).toEqual([left, ['running']]);
  const [sleeper] = await childrenOf(left);
  process.kill(sleeper ?? 0, 'SIGTERM');
  await eventually('it is started again', () => run.states.join(' ') === 'running restarting running');
  expect(run.workload.pid).not.toBe(left);
  const words = await lines(run.workload.logPath);
  expect([words[0], words.at(-1)]).toEqual(['first', 'second']);
});

test.each([
  { code: 0, restart: true, states: ['running', 'exited'] },
  { code: 3, restart: false, states: ['running', 'failed'] },
  { code: 3, restart: true, states: ['running', 'restarting', 'running'] },
])('a command that ended with $code while no agent ran (restart: $restart) goes through $states', async (scenario) => {
  const { code, restart, states } = scenario;
  await using folder = await makeTempFolder();
  const first = await workloadIn(folder.path);
  const gate = join(folder.path, 'gate');
  const command = `while [ ! -e ${gate} ]; do sleep 0.01; done; echo over; rm ${gate}; exit ${code}`;
  await first.workload.start({ command, restart }, { stableMs: 0, signal: never });
  const { pid } = first.workload;
  await first.workload[Symbol.asyncDispose]();
  await writeFile(gate, '');
  await eventually('it ended', async () => (await readProcess(pid ?? 0))?.isZombie ?? true);
  await using run = await workloadIn(folder.path);
  expect(await run.workload.adopt({ command, restart })).toBe(true);
  await eventually(states.join(' '), () => run.states.length === states.length);
  expect(run.states).toEqual(states);
});

test('nothing is adopted without a record, after a run that left no exit code, or from a stranger with its pid', async () => {
  await using folder = await makeTempFolder();
  const spec = { command: 'exec sleep 60', restart: true };
  await using run = await workloadIn(folder.path);
  expect(await run.workload.adopt(spec)).toBe(false);
  await writeFile(join(folder.path, 'workload.exit'), 'run-0000 0\n');
  const record = { pid: process.pid, startTicks: 1, runId: 'run-00001' };
  await writeFile(join(folder.path, 'workload.pid'), JSON.stringify(record));
  expect(await run.workload.adopt(spec)).toBe(false);
  expect(run.states).toEqual([]);
});

test('an adopted command is stopped with everything it started', async () => {
  await using folder = await makeTempFolder();
  const child = spawn(process.execPath, [join(import.meta.dirname, 'supervise.ts'), folder.path], { stdio: 'ignore' });
  const left = await leftover(folder.path, child);
  const [sleeper] = await childrenOf(left);
  await using run = await workloadIn(folder.path);
  await run.workload.adopt({ command: 'exec sleep 60', restart: true });
  await run.workload.stop(5_000);
  expect(run.states).toEqual(['running', 'stopped']);
  for (const pid of [left, sleeper ?? 0]) expect((await readProcess(pid))?.isZombie ?? true).toBe(true);
});

test('a copy whose pid was never recorded, because the agent died while starting it, is found by its mark', async () => {
  await using folder = await makeTempFolder();
  const runId = 'run-00000001';
  const env = { ...environment, DUMONT_WORKLOAD_RUN: runId };
  const child = spawn('sleep', ['60'], { env, detached: true, stdio: 'ignore' });
  await eventually('it carries the mark', () => hasEnvironment(child.pid ?? 0, 'DUMONT_WORKLOAD_RUN', runId));
  const gone = once(child, 'exit');
  await writeFile(join(folder.path, 'workload.pid'), JSON.stringify({ pid: 0, startTicks: 0, runId }));
  await using run = await workloadIn(folder.path);
  await run.workload.start({ command: 'exec sleep 60', restart: true }, { stableMs: 0, signal: never });
  expect(await gone).toEqual([null, 'SIGTERM']);
});

test('a pid that now belongs to someone else is left alone', async () => {
  await using folder = await makeTempFolder();
  const stranger = spawn('sleep', ['60'], { detached: true, stdio: 'ignore' });
  const pid = stranger.pid ?? 0;
  try {
    await writeFile(join(folder.path, 'workload.pid'), JSON.stringify({ pid, startTicks: 1, runId: 'run-00001' }));
    await using run = await workloadIn(folder.path);
    await run.workload.stop(0);
    expect((await readProcess(pid))?.isZombie).toBe(false);
  } finally {
    stranger.kill('SIGKILL');
  }
});

test('a log that grew past its bound is rotated once and the command goes on writing', async () => {
  await using folder = await makeTempFolder();
  await using run = await workloadIn(folder.path, 10_000);
  const command = 'while :; do echo 0123456789012345678901234567890123456789; sleep 0.001; done';
  await run.workload.start({ command, restart: true }, { stableMs: 0, signal: never });
  const { logPath } = run.workload;
  await eventually('the log is rotated', () => stat(`${logPath}.1`).catch(() => null));
  expect((await stat(`${logPath}.1`)).size).toBe(10_000);
  await eventually('it goes on', async () => (await lines(logPath)).length > 10);
});

test('a command that cannot be started is an error', async () => {
  await using folder = await makeTempFolder();
  const missing = join(folder.path, 'missing');
  const workload = new Workload({
    workspaceDir: missing,
    stateDir: folder.path,
    environment,
    clock: systemClock,
    random: seededRandom(1),
    log: createLogger('test', 'silent'),
    onState: () => {},
  });
  const start = workload.start({ command: 'true', restart: true }, { stableMs: 0, signal: never });
  await expect(start).rejects.toMatchObject({ code: 'IO', message: expect.stringContaining(missing) as string });
  expect(workload.state).toBe('failed');
  await workload[Symbol.asyncDispose]();
});

test('a hook runs to its end; a failing one is an error with its last words; a slow one is ended', async () => {
  await using folder = await makeTempFolder();
  const logPath = join(folder.path, 'log');
  const where = { workspaceDir: folder.path, logPath };
  const hook = { name: 'postRestore', ...where, environment, clock: systemClock, signal: never } as const;
  await runHook({ ...hook, command: 'echo "$DUMONT_HOOK in $DUMONT_WORKSPACE_DIR" > cache' });
  expect(await lines(join(folder.path, 'cache'))).toEqual([`postRestore in ${folder.path}`]);
  await expect(runHook({ ...hook, command: 'echo broken; exit 4' })).rejects.toMatchObject({
    code: 'WORKLOAD',
    message: expect.stringMatching(/exit code 4.*broken/) as string,
  });
  const slow = runHook({ ...hook, command: 'sleep 63 & sleep 63', timeoutMs: 100 });
  await expect(slow).rejects.toMatchObject({ code: 'TIMEOUT' });
  const left = await Promise.all((await listProcesses()).map(({ pid }) => commandLine(pid)));
  expect(left.filter((line) => line === 'sleep 63')).toEqual([]);
});

async function childrenOf(pid: number): Promise<number[]> {
  return eventually('it has a child', async () => {
    const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
    return text.trim() !== '' && text.trim().split(' ').map(Number);
  });
}

async function commandLine(pid: number): Promise<string> {
  const text = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  return text.replaceAll('\0', ' ').trim();
}

/** Waits for the supervised command's pid, then kills its supervisor alone. */
async function leftover(folder: string, supervisor: ChildProcess): Promise<number> {
  const pid = await eventually('the first copy runs', async () => {
    const text = await readFile(join(folder, 'workload.pid'), 'utf8').catch(() => null);
    return text === null ? null : (JSON.parse(text) as { readonly pid: number }).pid || null;
  });
  const gone = once(supervisor, 'exit');
  supervisor.kill('SIGKILL');
  await gone;
  return pid;
}
