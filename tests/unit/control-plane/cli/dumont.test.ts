import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  readConnectionFile,
  removeConnectionFile,
  writeConnectionFile,
} from '@dumont/control-plane/node/connection-file.ts';
import { appendEvent } from '@dumont/control-plane/store/events.ts';
import { endStep, startStep } from '@dumont/control-plane/store/steps.ts';
import type { OperationId } from '@dumont/shared/model/ids.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ApiWorld } from '../http/api-world.ts';
import { startApiWorld } from '../http/api-world.ts';
import type { SampleData } from '../http/sample-data.ts';
import { fillSampleData } from '../http/sample-data.ts';
import { dumont, startDumont } from './dumont-process.ts';

let world: ApiWorld;
let data: SampleData;
let directory: string;
let connected: Record<string, string>;

beforeAll(async () => {
  world = await startApiWorld();
  data = await fillSampleData(world.db, systemClock.nowMs());
  directory = await mkdtemp(join(tmpdir(), 'dumont-cli-'));
  connected = { DUMONT_URL: world.url, DUMONT_TOKEN: world.token };
});
afterAll(async () => {
  await world[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

test('machines are a table for people, whole ids where a program reads', async () => {
  const { exitCode, stdout, stderr } = await dumont(['machines', 'list'], connected);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  const [head, row, ...rest] = stdout.trimEnd().split('\n');
  expect(head).toMatch(/^MACHINE +WORKSPACE +STANDING +STATE +GPU/);
  expect(row).toMatch(new RegExp(`^${data.primaryId} +demo +primary +unconnected +RTX 4090 .* \\$0\\.41/h +\\$0\\.41`));
  expect(rest).toEqual([]);
  expect(stdout).not.toContain('\u001B');
});

test('the address for ssh is told, and the command for it printed as a shell reads it', async () => {
  const unaddressed = await dumont(['ssh', 'demo'], connected);
  expect(unaddressed).toMatchObject({ exitCode: 1, stdout: '' });
  expect(unaddressed.stderr).toContain('has no SSH address');
  await world.db.query(
    `insert into gateways (workspace_id, port, secret) select id, 20007, 's' from workspaces where name = 'demo'`,
  );
  const printed = await dumont(['ssh', 'demo', '--user', 'me', '--print', '--', '-v', "echo it's"], connected);
  const words = `ssh -p 20007 -o HostKeyAlias=dumont-demo me@dumont.test -v 'echo it'\\''s'`;
  expect(printed).toMatchObject({ exitCode: 0, stdout: `${words}\n` });
  expect((await dumont(['workspaces', 'show', 'demo'], connected)).stdout).toContain(
    'dumont.test:20007 · dumont ssh demo',
  );
});

test.each([
  [['machines', 'list', '--all'], 'array'],
  [['machines', 'ledger', 'all=true'], 'array'],
  [['agents', 'list'], 'array'],
  [['agents', 'upgrade', 'workspace=demo'], 'object'],
  [['workspaces', 'list'], 'array'],
  [['workspaces', 'show', 'demo'], 'object'],
  [['snapshots', 'list', 'demo'], 'array'],
  [['snapshots', 'take', 'demo'], 'object'],
  [['branches', 'list', 'workspace=demo'], 'array'],
  [['branches', 'show', 'demo'], 'object'],
  [['branches', 'merge', 'demo', 'strategy=newest'], 'object'],
  [['failover', 'list', 'workspace=demo'], 'array'],
  [['failover', 'status'], 'object'],
  [['failover', 'report', 'demo'], 'object'],
  [['failover', 'test-real-history', 'workspace=demo'], 'array'],
  [['failover', 'test-real', 'demo', '--no-wait'], 'object'],
  [['failover', 'test-real-report', 'demo'], 'object'],
  [['test', 'list'], 'array'],
  [['operations', 'list'], 'array'],
] as const)('%j --json prints one JSON %s and nothing else', async (args, shape) => {
  const { exitCode, stdout, stderr } = await dumont([...args, '--json'], connected);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  expect(stdout.trimEnd().split('\n')).toHaveLength(1);
  expect(Array.isArray(JSON.parse(stdout))).toBe(shape === 'array');
});

test('a machine is found by the beginning of its id, with or without its prefix', async () => {
  for (const text of [data.primaryId.slice(0, 12), data.primaryId.slice(3, 12)]) {
    const { stdout } = await dumont(['machines', 'show', text, '--json'], connected);
    expect(JSON.parse(stdout)).toMatchObject({ instanceId: data.primaryId });
  }
  const ambiguous = await dumont(['machines', 'show', 'in_'], connected);
  expect(ambiguous.exitCode).toBe(2);
  expect(ambiguous.stderr).toContain('is the beginning of 2 ids');
  const unknown = await dumont(['machines', 'show', 'in_zzz'], connected);
  expect(unknown).toMatchObject({ exitCode: 1, stdout: '' });
  expect(unknown.stderr).toBe('error: there is no machine "in_zzz"\nSee "dumont machines list --all".\n');
});

test('a branch is a table of what differs, tells what a merge did with it, and goes when it is deleted', async () => {
  const list = await dumont(['branches', 'list'], connected);
  expect(list.stdout).toMatch(/^BRANCH +WORKSPACE +STATE +ADDED/);
  expect(list.stdout).toContain(`${data.branchId}  demo       open`);
  const shown = await dumont(['branches', 'show', data.branchId.slice(0, 12)], connected);
  expect(shown.stdout).toMatch(/1 added · 0 changed · 0 deleted · 4\.0\d? KiB/);
  expect(shown.stdout).toMatch(/added +model\.pt +4\.0\d? KiB/);
  const merged = await dumont(['branches', 'merge', 'demo', 'model.pt'], connected);
  expect(merged.stdout).toContain('→ demo: 1 taken over; ');
  const wrong = await dumont(['branches', 'merge', 'demo', '--strategy', 'mine'], connected);
  expect(wrong.exitCode).toBe(2);
  expect(wrong.stderr).toContain('side-by-side, newest, theirs, ours');
  expect((await dumont(['branches', 'delete', data.branchId], connected)).stdout).toContain('is deleted');
  const gone = await dumont(['branches', 'show', 'demo'], connected);
  expect(gone).toMatchObject({ exitCode: 1, stderr: 'error: workspace demo has no branch\n' });
});

test('stop and lose reach the control plane with what was asked', async () => {
  world.calls.length = 0;
  await dumont(['machines', 'stop', data.primaryId, 'snapshot=false'], connected);
  await dumont(['machines', 'stop', data.primaryId], connected);
  await dumont(['machines', 'lose', data.primaryId, '--how', 'partition'], connected);
  expect(world.calls).toEqual([
    { kind: 'release', instanceId: data.primaryId, snapshotFirst: false },
    { kind: 'release', instanceId: data.primaryId, snapshotFirst: true },
    { kind: 'loss', instanceId: data.primaryId, how: 'partition' },
  ]);
});

test('a report leads with what matters and draws its phases', async () => {
  const { stdout } = await dumont(['failover', 'report', data.failoverId], connected);
  const lines = stdout.split('\n');
  expect(lines[1]).toBe('served again in 4.2 s · lost 0.8 s of work · cost $0.0013');
  expect(lines.find((line) => line.startsWith('restore '))).toMatch(/█+.* 1\.4 s$/);
});

test('a triggered failover is followed step by step to its end', async () => {
  const running = startDumont(['failover', 'trigger', 'demo', '--wait'], connected);
  await running.printed('Moving demo');
  const call = await world.client.call('listOperations', { query: { limit: 1 } });
  const id = call.items[0]?.operationId as OperationId;
  for (const step of ['searching', 'restoring']) {
    const { position } = await startStep(world.db, id, step, systemClock.nowMs());
    const end = { position, atMs: systemClock.nowMs(), durationMs: 40, outcome: 'done', detail: {} };
    await endStep(world.db, id, end);
    await appendEvent(world.db, { type: 'operation.step', atMs: systemClock.nowMs(), operationId: id });
    world.feed.wake();
    await running.printed(step);
  }
  await world.db.query("update operations set state = 'completed', finished_at = $2 where id = $1", [id, 1]);
  const { exitCode, stdout } = await running.finished;
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(/✓ searching +40 ms\n.*✓ restoring +40 ms\nserved again in 4\.2 s/);
});

test('waiting can be interrupted; the failover goes on', async () => {
  const running = startDumont(['failover', 'trigger', 'demo', '--wait'], connected);
  await running.printed('Moving demo');
  running.interrupt();
  const { exitCode, stderr } = await running.finished;
  expect(exitCode).toBe(130);
  expect(stderr).toMatch(/^Stopped waiting; the operation goes on: dumont operations show op_\w+\n$/);
  await world.db.query('update operations set finished_at = 1 where finished_at is null');
});

test('events are told one JSON object a line, and followed until Ctrl-C', async () => {
  const { stdout } = await dumont(['events', '--json', '--after', '2'], connected);
  const ids = stdout
    .trimEnd()
    .split('\n')
    .map((line) => (JSON.parse(line) as { eventId: number }).eventId);
  expect(ids.slice(0, 2)).toEqual([3, 4]);
  const following = startDumont(['events', '--follow', '--after', '4'], connected);
  await following.printed('snapshot.committed');
  await appendEvent(world.db, { type: 'workload.failed', atMs: 1, data: { word: 'now' } });
  world.feed.wake();
  await following.printed('workload.failed');
  following.interrupt();
  expect(await following.finished).toMatchObject({ exitCode: 0, stderr: '' });
});

test.each([
  [['machines', 'lst'], "unknown command 'lst'", 'Did you mean list?'],
  [['machines', 'list', '--al'], "unknown option '--al'", 'Did you mean --all?'],
  [['machines', 'lose', 'x', '--how', 'melt'], "'melt' is invalid", 'dumont --help'],
  [['machines', 'list', '--limit', '0'], 'whole number from 1', 'dumont --help'],
  [['workspaces', 'show'], "missing required argument 'workspace'", 'dumont --help'],
])('%j is wrong usage: exit code 2, what is wrong and a hint', async (args, message, hint) => {
  const text = await dumont(args, connected);
  expect(text).toMatchObject({ exitCode: 2, stdout: '' });
  expect(text.stderr).toContain(message);
  expect(text.stderr).toContain(hint);
  const json = await dumont([...args, '--json'], connected);
  expect(json).toMatchObject({ exitCode: 2, stdout: '' });
  expect(JSON.parse(json.stderr)).toMatchObject({ code: 'USAGE' });
});

test('help is no error, a missing command is', async () => {
  const help = await dumont(['failover', '--help']);
  expect(help).toMatchObject({ exitCode: 0, stderr: '' });
  expect(help.stdout).toContain('trigger [options] <workspace>');
  expect(help.stdout).toContain('--json');
  expect((await dumont([])).exitCode).toBe(2);
  expect((await dumont(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
});

test('a wrong token, a missing token and a server that is down are told apart', async () => {
  const wrong = await dumont(['machines', 'list', '--token', 'wrong'], connected);
  expect(wrong.exitCode).toBe(1);
  expect(wrong.stderr).toContain('the API token is not the right one');
  const missing = await dumont(['machines', 'list'], { DUMONT_URL: world.url });
  expect(missing.exitCode).toBe(1);
  expect(missing.stderr).toContain(`no API token for ${world.url}`);
  const down = await dumont(['machines', 'list', '--json', '--url', 'http://127.0.0.1:9'], connected);
  expect(down).toMatchObject({ exitCode: 1, stdout: '' });
  expect(JSON.parse(down.stderr)).toMatchObject({
    code: 'UNAVAILABLE',
    hint: expect.stringContaining('Is the control plane running') as string,
  });
});

test('the connection comes from the file the control plane writes, or the token file', async () => {
  const path = join(directory, 'conf', 'connection.json');
  const connection = { url: world.url, token: world.token };
  await writeConnectionFile(path, connection);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect((await dumont(['workspaces', 'list'], { DUMONT_CONNECTION_FILE: path })).exitCode).toBe(0);
  // Its token is for its own server only.
  const other = await dumont(['workspaces', 'list', '--url', 'http://127.0.0.1:9'], { DUMONT_CONNECTION_FILE: path });
  expect(other.stderr).toContain('no API token for http://127.0.0.1:9');
  await writeFile(join(directory, 'api-token'), `${world.token}\n`);
  const byTokenFile = await dumont(['workspaces', 'list'], { DUMONT_URL: world.url, DUMONT_DATA_DIR: directory });
  expect(byTokenFile.exitCode).toBe(0);
});

test("a control plane removes its own connection file, not a later one's", async () => {
  const path = join(directory, 'connection.json');
  const mine = { url: 'http://127.0.0.1:1', token: 'a' };
  const later = { url: 'http://127.0.0.1:2', token: 'b' };
  await writeConnectionFile(path, mine);
  await writeConnectionFile(path, later);
  await removeConnectionFile(path, mine);
  expect(await readConnectionFile(path)).toEqual(later);
  await removeConnectionFile(path, later);
  expect(await readConnectionFile(path)).toBeNull();
  await writeFile(path, '{"url":"x"}');
  await expect(readConnectionFile(path)).rejects.toMatchObject({ code: 'CORRUPT' });
});
