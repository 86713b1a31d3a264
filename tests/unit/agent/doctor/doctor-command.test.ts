import { execFile } from 'node:child_process';
import { chmod, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { tryParseJson } from '@dumont/shared/util/try-json.ts';
import { expect, test } from 'vitest';
import { AGENT_MAIN } from '../../../world/site.ts';
import { runProgram } from '../../../world/run-program.ts';
import { makeTempFolder } from '../../../world/temp-folder.ts';

const SECRET = 'hush-4711-hush-4711';

interface Report {
  readonly healthy: boolean;
  readonly counts: Readonly<Record<string, number>>;
  readonly checks: readonly { id: string; status: string; detail: string; fix: string | null }[];
}

/** The doctor as a program, and its answer by check. */
async function doctor(args: readonly string[], env: Readonly<Record<string, string>>) {
  const { exitCode, stdout, stderr } = await runProgram(AGENT_MAIN, ['doctor', '--json', ...args], env);
  const report = tryParseJson(stdout) as Report | undefined;
  const by = Object.fromEntries((report?.checks ?? []).map((check) => [check.id, check]));
  return { exitCode, stdout, stderr, report, by };
}

test('in a fresh home, without any environment, nothing fails and nothing stays behind', async () => {
  await using home = await makeTempFolder();
  const { exitCode, report, stderr } = await doctor([], { HOME: home.path, XDG_CACHE_HOME: join(home.path, 'cache') });
  expect(stderr).toBe('');
  expect(report?.checks.filter(({ status }) => status === 'fail')).toEqual([]);
  expect(exitCode).toBe(0);
  expect((await readdir(home.path)).filter((name) => name !== 'cache')).toEqual([]);
});

test('what is wrong is found, exits with 1, and no secret is told', async () => {
  await using folder = await makeTempFolder();
  const [state, workspace] = [join(folder.path, 'state'), join(folder.path, 'work')];
  await Promise.all([mkdir(join(state, 'log'), { recursive: true }), mkdir(workspace)]);
  await writeFile(join(workspace, '.dumontignore'), '*\n');
  await writeFile(join(state, 'credential.json'), JSON.stringify({ credential: SECRET }));
  await chmod(join(state, 'credential.json'), 0o644);
  await writeFile(join(state, 'supervisor.pid'), '4194305\n');
  await writeFile(join(state, 'upgrade.failed'), 'from=1.0.0\nto=1.1.0\nreason=it did not start\n');
  await writeFile(join(state, 'log/agent.log'), `${JSON.stringify({ level: 30, reason: 'unauthorized' })}\n`);
  const { exitCode, by, stdout } = await doctor(['--to', `file://${join(folder.path, 'store')}`], {
    HOME: folder.path,
    XDG_CACHE_HOME: join(folder.path, 'cache'),
    DUMONT_CONTROL_URL: `http://user:${SECRET}@127.0.0.1:1`,
    DUMONT_STATE_DIR: state,
    DUMONT_WORKSPACE_DIR: workspace,
    DUMONT_ENROL_TOKEN: SECRET,
    SNAPSHOT_PASSWORD: SECRET,
    MINIO_APPLICATION_KEY: SECRET,
    https_proxy: `http://user:${SECRET}@proxy:3128`,
  });
  expect(exitCode).toBe(1);
  expect(stdout).not.toContain(SECRET);
  expect(by).toMatchObject({
    permissions: { status: 'fail', fix: expect.stringContaining('chmod 600') },
    'ignore-file': { status: 'warn', detail: expect.stringContaining('leave out everything') },
    workspace: { status: 'ok' },
    'control-url': { status: 'ok', detail: 'http://127.0.0.1:1' },
    'control-tcp': { status: 'fail', detail: expect.stringContaining('ECONNREFUSED') },
    'control-http': { status: 'skip' },
    enrolment: { status: 'fail', detail: expect.stringContaining('refuses') },
    agent: { status: 'fail', detail: expect.stringContaining('is gone') },
    upgrade: { status: 'warn', detail: '1.1.0 did not work (it did not start); back on 1.0.0' },
    proxy: { status: 'warn' },
    storage: { status: 'ok' },
  });
  const stored = await readdir(join(folder.path, 'store'), { recursive: true, withFileTypes: true });
  expect(stored.filter((entry) => entry.isFile())).toEqual([]);
});

test('only the checks asked for run; an unknown one is a usage error', async () => {
  await using home = await makeTempFolder();
  const env = { HOME: home.path };
  const some = await doctor(['--only', 'memory,open-files', '--only', 'clock'], env);
  expect(Object.keys(some.by)).toEqual(['open-files', 'memory', 'clock']);
  const unknown = await doctor(['--only', 'memory,mood'], env);
  expect(unknown.exitCode).toBe(2);
  expect(tryParseJson(unknown.stdout)).toMatchObject({ error: { code: 'USAGE', field: 'only' } });
});

const run = promisify(execFile);
const canLimit = await run('unshare', ['-r', 'sh', '-c', 'echo 3 > /proc/sys/user/max_inotify_watches']).then(
  () => true,
  () => false,
);

test.runIf(canLimit)('where the system has too few watches, the doctor says what happens then', async () => {
  await using folder = await makeTempFolder();
  for (let index = 0; index < 10; index += 1) await mkdir(join(folder.path, `d${index}`));
  const look = `exec "${process.execPath}" "${AGENT_MAIN}" doctor --json --only inotify`;
  const env = { PATH: process.env['PATH'], HOME: folder.path, DUMONT_WORKSPACE_DIR: folder.path };
  for (const limit of ['max_inotify_watches', 'max_inotify_instances']) {
    const least = limit === 'max_inotify_watches' ? 3 : 0;
    const { stdout } = await run('unshare', ['-r', 'sh', '-c', `echo ${least} > /proc/sys/user/${limit}; ${look}`], {
      env,
    });
    const { checks } = JSON.parse(stdout) as Report;
    expect(checks).toMatchObject([{ status: 'warn', detail: expect.stringContaining('rescanned every 10 s') }]);
  }
});

const canIsolate = await run('bwrap', ['--ro-bind', '/', '/', 'true']).then(
  () => true,
  () => false,
);

test.runIf(canIsolate)('it works for a user without a name, home, /proc, /dev, shell or network', async () => {
  const libraries = ['/lib', '/lib64', '/usr/lib'].flatMap((path) => ['--ro-bind-try', path, path]);
  const ours = ['--ro-bind', join(import.meta.dirname, '../../../..'), '/app', '--ro-bind', process.execPath, '/node'];
  const command = [
    '--unshare-all',
    '--uid',
    '1000',
    '--clearenv',
    '/node',
    '/app/agent/src/main.ts',
    'doctor',
    '--json',
  ];
  const { stdout } = await run('bwrap', [...libraries, ...ours, ...command]);
  const report = JSON.parse(stdout) as Report;
  expect(report.checks.length).toBeGreaterThan(25);
  expect(report.healthy).toBe(true);
});
