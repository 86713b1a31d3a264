import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { parseCount, parseDuration, parseShare, parseSize } from '@dumont/agent/commands/flag-values.ts';
import { runStandalone } from '@dumont/agent/commands/run.ts';
import { makeTempFolder } from '../../../world/temp-folder.ts';

async function run(argv: readonly string[], signal = new AbortController().signal, stdout = new PassThrough()) {
  const stderr = new PassThrough();
  const outputs = Promise.all([text(stdout), text(stderr)]);
  const exitCode = await runStandalone(argv, { stdout, stderr, isTty: false }, signal);
  stdout.end();
  stderr.end();
  const [out, err] = await outputs;
  return { exitCode, out, err, json: () => JSON.parse(out) as Record<string, unknown> };
}

async function stored() {
  const folder = await makeTempFolder();
  const dir = join(folder.path, 'ws');
  await mkdir(dir);
  await writeFile(join(dir, 'a.txt'), 'first');
  await writeFile(join(dir, 'b.cfg'), 'second');
  const store = `file://${folder.path}/store`;
  expect((await run(['snapshot', dir, '--to', store])).exitCode).toBe(0);
  return { dir, store, path: folder.path, [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose]() };
}

test('a restore takes what comes first, several times, and a cache with its size', async () => {
  await using place = await stored();
  const restore = (to: string, ...flags: string[]) =>
    run(['restore', '--from', place.store, '--to', join(place.path, to), '--json', ...flags]);
  const plain = (await restore('1')).json();
  expect(plain).toMatchObject({ readyMs: { priority: null }, attributeFlaws: { count: 0 } });
  const cache = ['--cache', `${join(place.path, 'cache')}:5M`];
  const first = (await restore('2', '--first', '*.none', '--first', '*.cfg', '--no-owner', ...cache)).json();
  expect(first).toMatchObject({ bytesFromCache: 0, readyMs: { priority: expect.any(Number) as number } });
  expect(await readdir(join(place.path, 'cache'))).toHaveLength(2);
  const second = (await restore('3', ...cache)).json();
  expect(second['bytesFromCache']).toBeGreaterThan(0);
  const wrong = await restore('4', '--cache', `${place.path}/cache:much`);
  expect(wrong.exitCode).toBe(2);
  expect(wrong.json()).toMatchObject({ error: { code: 'USAGE', field: 'cache' } });
});

test('verify reads everything, or the share and seed it is given, and refuses a share of nothing', async () => {
  await using place = await stored();
  const verify = (...flags: string[]) => run(['verify', '--from', place.store, '--json', ...flags]);
  expect((await verify('--read-data')).json()).toMatchObject({ chunksRead: 2, readData: { share: 1 } });
  expect((await verify('--read-data=50%', '--seed', '3')).json()).toMatchObject({
    chunksRead: 1,
    readData: { share: 0.5, seed: 3 },
  });
  expect((await verify('--read-data=0%')).exitCode).toBe(2);
  expect((await run(['verify', '--help'])).out).toContain('--read-data[=<n%>]');
});

test('mirror prints a line for each snapshot and ends well when it is stopped', async () => {
  await using place = await stored();
  const stop = new AbortController();
  const stdout = new PassThrough();
  stdout.once('data', () => stop.abort());
  const target = join(place.path, 'mirror');
  const args = ['mirror', '--from', place.store, '--to', target, '--interval', '10ms', '--json'];
  const { exitCode, out } = await run(args, stop.signal, stdout);
  expect(exitCode).toBe(0);
  const lines = out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(lines).toMatchObject([
    { kind: 'restored', fileCount: 2 },
    { kind: 'stopped', appliedCount: 1 },
  ]);
  expect((await readdir(target)).toSorted()).toEqual(['a.txt', 'b.cfg']);
});

test('sizes, times, shares and counts are read as people write them, and nothing else', () => {
  expect(['10', '1k', '1.5MiB', '2GB', '20Gi', '1T'].map((one) => parseSize('x', one))).toEqual([
    10,
    1_000,
    1_572_864,
    2e9,
    20 * 2 ** 30,
    1e12,
  ]);
  expect(['500ms', '2s', '3m', '1h'].map((one) => parseDuration('x', one))).toEqual([500, 2_000, 180_000, 3_600_000]);
  expect(['100%', '0.5%'].map((one) => parseShare('x', one))).toEqual([1, 0.005]);
  expect(parseCount('x', '42')).toBe(42);
  const refusals = [
    ...['', '-1', '1e9', '10X', '10i', '10iB', 'much'].map((one) => () => parseSize('x', one)),
    ...['', '2', '2 s', '-1s'].map((one) => () => parseDuration('x', one)),
    ...['', '5', '0%', '101%', '-1%'].map((one) => () => parseShare('x', one)),
    ...['', '-1', '1.5'].map((one) => () => parseCount('x', one)),
  ];
  for (const refusal of refusals) expect(refusal).toThrow(expect.objectContaining({ code: 'USAGE', field: 'x' }));
});
