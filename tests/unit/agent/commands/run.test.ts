import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { expect, test, vi } from 'vitest';
import { runStandalone, STANDALONE_COMMANDS } from '@dumont/agent/commands/run.ts';
import { startS3Simulator } from '../../../simulators/s3/s3-simulator.ts';
import { makeTempFolder } from '../../../world/temp-folder.ts';

async function run(argv: readonly string[], isTty = false) {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const outputs = Promise.all([text(stdout), text(stderr)]);
  const exitCode = await runStandalone(argv, { stdout, stderr, isTty }, new AbortController().signal);
  stdout.end();
  stderr.end();
  const [out, err] = await outputs;
  return { exitCode, out, err, json: () => JSON.parse(out) as Record<string, unknown> };
}

async function workplace() {
  const folder = await makeTempFolder();
  const dir = join(folder.path, 'ws');
  await mkdir(dir);
  await writeFile(join(dir, 'a.txt'), 'first');
  return {
    dir,
    target: join(folder.path, 'out'),
    store: `file://${folder.path}/store`,
    path: folder.path,
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

test('snapshot, list, verify, ls and restore work by hand, for people and as JSON', async () => {
  await using place = await workplace();
  const { dir, store, target } = place;
  const first = await run(['snapshot', dir, '--to', store, '--json']);
  expect(first).toMatchObject({ exitCode: 0, err: '' });
  expect(first.json()).toMatchObject({
    kind: 'created',
    fileCount: 1,
    totalBytes: 5,
    newBytes: 5,
    chunkCount: 1,
    tornPaths: [],
    skipped: [],
  });
  expect((await run(['snapshot', dir, '--to', store])).out).toContain('nothing changed');
  await writeFile(join(dir, 'a.txt'), 'second');
  expect((await run(['snapshot', dir, '--to', store])).out).toMatch(/^snapshot sn_\w{20}: 1 files, 6 B; 6 B new/);
  const listed = (await run(['snapshots', '--from', store, '--json'])).json()['snapshots'];
  expect(listed).toMatchObject([{ seq: 1, epoch: 0, writerId: 'standalone' }, { seq: 2 }]);
  expect((await run(['verify', '--from', store, '--read-data'])).out).toContain(
    'is good: 1 files, 1 chunks in 1 packs',
  );
  expect((await run(['ls', '--from', store])).out).toBe('file     0644       6 B  a.txt\n');
  expect((await run(['restore', '--from', store, '--to', target, '--json'])).json()).toMatchObject({
    kind: 'restored',
    fileCount: 1,
  });
  expect(await readFile(join(target, 'a.txt'), 'utf8')).toBe('second');
  const id = String(first.json()['snapshotId']);
  await writeFile(join(target, 'extra'), '');
  const back = await run(['restore', '--from', store, '--to', target, '--snapshot', id.slice(0, 15), '--delete']);
  expect(back).toMatchObject({ exitCode: 0 });
  expect(await readdir(target)).toEqual(['a.txt']);
  expect(await readFile(join(target, 'a.txt'), 'utf8')).toBe('first');
});

test('a damaged store makes verify fail, with the damage listed', async () => {
  await using place = await workplace();
  await run(['snapshot', place.dir, '--to', place.store]);
  const [pack = ''] = await readdir(join(place.path, 'store/packs'));
  await writeFile(join(place.path, 'store/packs', pack), 'garbage');
  const found = await run(['verify', '--from', place.store, '--json']);
  expect(found.exitCode).toBe(1);
  expect(found.json()).toMatchObject({ kind: 'damaged', problemCount: 1 });
});

test('a file that cannot be put into a snapshot gives exit code 3 and is named; a socket or pipe does not', async () => {
  await using place = await workplace();
  await writeFile(Buffer.concat([Buffer.from(`${place.dir}/bad`), Buffer.from([0xfe])]), 'x');
  const outcome = await run(['snapshot', place.dir, '--to', place.store]);
  expect(outcome.exitCode).toBe(3);
  expect(outcome.out).toContain('its name is not UTF-8');
});

test.each([
  [['snapshot'], 'snapshot needs <dir>'],
  [['snapshot', '.'], 'snapshot needs --to <store>'],
  [['restore'], 'restore needs --from <store> and --to <dir>'],
  [['snapshot', '.', '--too', 'x'], "Unknown option '--too'"],
  [['snapshot', 'a', 'b', '--to', 'file:///x'], 'does not take the argument "b"'],
  [['ls', '--from', 'ftp://x'], 'unknown kind of store'],
  [['ls', '--from', '/just/a/path'], 'is not a store'],
  [['ls', '--from', 'file:///nowhere', '--workspace', 'nope'], '--workspace nope: it must look like ws_'],
  [['fly'], 'there is no command "fly"'],
])('%j is a usage error that says what is wrong', async (argv, message) => {
  const { exitCode, err, out } = await run(argv);
  expect(exitCode).toBe(2);
  expect(err).toContain(message);
  expect(out).toBe('');
});

test('an s3 store without its settings names all of them at once', async () => {
  const { exitCode, err } = await run(['ls', '--from', 's3://bucket/pre fix']);
  expect(exitCode).toBe(2);
  for (const problem of ['S3_ENDPOINT', 'S3_KEY_ID', 'S3_APPLICATION_KEY', 'prefix']) expect(err).toContain(problem);
});

test('failures are exit code 1, one line with a hint, or one JSON object', async () => {
  await using place = await workplace();
  const args = ['restore', '--from', place.store, '--to', place.target];
  expect(await run(args)).toMatchObject({
    exitCode: 1,
    out: '',
    err: expect.stringContaining('holds no snapshot latest') as string,
  });
  expect((await run([...args, '--json'])).json()).toMatchObject({
    error: { code: 'NOT_FOUND', hint: expect.stringContaining('snapshots') as string },
  });
  expect(await run(['snapshot', join(place.dir, 'absent'), '--to', place.store])).toMatchObject({ exitCode: 1 });
});

test('a store inside the folder is refused', async () => {
  await using place = await workplace();
  const outcome = await run(['snapshot', place.dir, '--to', `file://${place.dir}/backup`]);
  expect(outcome).toMatchObject({ exitCode: 2, err: expect.stringContaining('lies inside the folder') as string });
  expect(await readdir(place.dir)).toEqual(['a.txt']);
});

test('every command explains itself, and progress shows on a terminal only', async () => {
  await using place = await workplace();
  for (const name of STANDALONE_COMMANDS) {
    const help = await run([name, '--help']);
    expect(help).toMatchObject({ exitCode: 0, err: '' });
    expect(help.out).toContain(`dumont-agent ${name}`);
    expect(help.out).toContain('--json');
  }
  const watched = await run(['snapshot', place.dir, '--to', place.store], true);
  expect(watched.err).toContain('snapshot [############################] 100%');
});

test('the same commands work on S3 while the service stumbles', async () => {
  await using place = await workplace();
  const keys = { accessKeyId: 'id', secretAccessKey: 'secret' };
  await using simulator = await startS3Simulator({ ...keys, buckets: ['b'] });
  vi.stubEnv('S3_ENDPOINT', simulator.endpoint);
  vi.stubEnv('S3_KEY_ID', keys.accessKeyId);
  vi.stubEnv('S3_APPLICATION_KEY', keys.secretAccessKey);
  try {
    simulator.faults.add({ kind: 'reset', method: 'PUT' });
    simulator.faults.add({ kind: 'truncate', method: 'GET', keyPrefix: 'team/packs/' });
    expect(await run(['snapshot', place.dir, '--to', 's3://b/team'])).toMatchObject({ exitCode: 0, err: '' });
    const restored = await run(['restore', '--from', 's3://b/team', '--to', place.target]);
    expect(restored).toMatchObject({ exitCode: 0, err: '' });
    expect(await readFile(join(place.target, 'a.txt'), 'utf8')).toBe('first');
    expect([...simulator.objects('b').keys()].every((key) => key.startsWith('team/'))).toBe(true);
  } finally {
    vi.unstubAllEnvs();
  }
});
