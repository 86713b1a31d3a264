import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterEach, expect, test, vi } from 'vitest';
import { runStandalone } from '@dumont/agent/commands/run.ts';
import { openSecrets } from '@dumont/agent/secrets/key-ring.ts';
import { FileStore } from '@dumont/agent/storage/file-store.ts';
import { openNamedStore } from '@dumont/agent/commands/command.ts';
import { startS3Simulator } from '../../../simulators/s3/s3-simulator.ts';
import { QUICK_KEY } from '../../../world/quick-key.ts';
import { makeTempFolder } from '../../../world/temp-folder.ts';

afterEach(() => vi.unstubAllEnvs());

async function run(argv: readonly string[], passwords: { readonly is?: string; readonly next?: string } = {}) {
  vi.stubEnv('SNAPSHOT_PASSWORD', passwords.is ?? '');
  vi.stubEnv('SNAPSHOT_NEW_PASSWORD', passwords.next ?? '');
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const outputs = Promise.all([text(stdout), text(stderr)]);
  const exitCode = await runStandalone(argv, { stdout, stderr, isTty: false }, new AbortController().signal);
  stdout.end();
  stderr.end();
  const [out, err] = await outputs;
  for (const password of Object.values(passwords)) expect(out + err).not.toContain(password);
  return { exitCode, out, err };
}

async function workplace() {
  const folder = await makeTempFolder();
  const dir = join(folder.path, 'ws');
  await mkdir(dir);
  await writeFile(join(dir, 'a.txt'), 'first');
  const storePath = join(folder.path, 'store');
  return {
    path: folder.path,
    dir,
    storePath,
    store: `file://${storePath}`,
    target: join(folder.path, 'out'),
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

test('with a password every command works on an encrypted store, and without it none does', async () => {
  await using place = await workplace();
  const { dir, store, target, path } = place;
  const is = 'correct horse';
  await openSecrets(new FileStore(place.storePath), is, { create: QUICK_KEY });
  expect(await run(['snapshot', dir, '--to', store], { is })).toMatchObject({ exitCode: 0, err: '' });
  expect(await run(['snapshot', dir, '--to', store, '--json'], { is })).toMatchObject({ exitCode: 0 });
  const commands = [
    ['snapshot', dir, '--to', store],
    ['verify', '--from', store, '--read-data'],
    ['ls', '--from', store],
    ['restore', '--from', store, '--to', target],
  ];
  const before = await readdir(place.storePath, { recursive: true });
  for (const command of commands) {
    for (const wrong of [{}, { is: 'battery staple' }]) {
      const refused = await run(command, wrong);
      expect(refused).toMatchObject({ exitCode: 1, out: '' });
      expect(refused.err).toContain('SNAPSHOT_PASSWORD');
    }
  }
  expect(await readdir(place.storePath, { recursive: true })).toEqual(before);
  expect(await readdir(path)).not.toContain('out');
  await writeFile(join(path, 'password'), `${is}\n`);
  for (const command of commands) {
    const done = await run([...command, '--password-file', join(path, 'password')]);
    expect(done).toMatchObject({ exitCode: 0, err: '' });
  }
  expect(await readFile(join(target, 'a.txt'), 'utf8')).toBe('first');
});

test('the same holds on S3, where nothing readable lies either', async () => {
  await using place = await workplace();
  const is = 'correct horse';
  const keys = { accessKeyId: 'id', secretAccessKey: 'secret' };
  await using simulator = await startS3Simulator({ ...keys, buckets: ['b'], mode: 'b2' });
  vi.stubEnv('S3_ENDPOINT', simulator.endpoint);
  vi.stubEnv('S3_KEY_ID', keys.accessKeyId);
  vi.stubEnv('S3_APPLICATION_KEY', keys.secretAccessKey);
  {
    await using store = await openNamedStore('s3://b/team');
    await openSecrets(store, is, { create: QUICK_KEY });
  }
  expect(await run(['snapshot', place.dir, '--to', 's3://b/team'], { is })).toMatchObject({ exitCode: 0, err: '' });
  const stored = simulator.objects('b');
  expect(stored.size).toBeGreaterThanOrEqual(3);
  for (const bytes of stored.values()) expect(bytes.includes('a.txt') || bytes.includes('first')).toBe(false);
  const restore = ['restore', '--from', 's3://b/team', '--to', place.target];
  expect(await run(restore, { is: 'wrong' })).toMatchObject({ exitCode: 1 });
  expect(await run(restore, { is })).toMatchObject({ exitCode: 0, err: '' });
  expect(await readFile(join(place.target, 'a.txt'), 'utf8')).toBe('first');
});

test('passwords are listed, added, replaced and removed', async () => {
  await using place = await workplace();
  const { store } = place;
  await run(['snapshot', place.dir, '--to', store], { is: 'one-password' });
  const key = (...words: readonly string[]) => ['key', ...words, '--store', store];
  expect((await run(key('list'))).out).toMatch(/^[0-9a-f]{32} {2}made \S+ {2}master [0-9a-f]{32} {2}first\n$/);
  const added = await run(key('add', '--label', 'for\u0007 Ana'), { is: 'one-password', next: 'two-password' });
  expect(added.out).toMatch(/^added [0-9a-f]{32}\n$/);
  expect((await run(key('list'))).out).toContain('for\uFFFD Ana');
  const rotated = await run(key('rotate'), { is: 'one-password', next: 'three-password' });
  expect(rotated).toMatchObject({ exitCode: 0, out: expect.stringMatching(/^added .*\nremoved .*\n$/) as string });
  expect(await run(['ls', '--from', store], { is: 'one-password' })).toMatchObject({ exitCode: 1 });
  const id = added.out.slice(6, -1);
  expect(await run(key('remove', '--id', id), { is: 'two-password' })).toMatchObject({ exitCode: 1 });
  expect(await run(key('remove', '--id', id), { is: 'three-password' })).toMatchObject({ exitCode: 0 });
  expect(await run(['ls', '--from', store], { is: 'three-password' })).toMatchObject({ exitCode: 0 });
});

test.each([
  [['key', 'fly'], 2, 'list, add, remove, rotate'],
  [['key', 'remove'], 2, '--id'],
  [['key', 'add'], 1, 'SNAPSHOT_PASSWORD'],
  [['key', 'list', '--password', 'p'], 2, "Unknown option '--password'"],
  [['ls', '--password-file', '/nowhere'], 1, '/nowhere'],
] as const)('%j is refused with a word on what is missing', async ([name, ...rest], exitCode, message) => {
  await using place = await workplace();
  const refused = await run([name, ...rest, name === 'key' ? '--store' : '--from', place.store]);
  expect(refused).toMatchObject({ exitCode, out: '' });
  expect(refused.err).toContain(message);
});

test('changing a password needs the new one, and an empty password file is none', async () => {
  await using place = await workplace();
  const { store, path } = place;
  const rotate = ['key', 'rotate', '--store', store];
  expect(await run(rotate, { is: 'some-password' })).toMatchObject({
    exitCode: 2,
    err: expect.stringContaining('SNAPSHOT_NEW_PASSWORD') as string,
  });
  await writeFile(join(path, 'empty'), '\n');
  expect(await run([...rotate, '--password-file', join(path, 'empty')])).toMatchObject({ exitCode: 2 });
});
