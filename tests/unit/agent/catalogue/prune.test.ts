import { mkdir, readdir, readFile, rm, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { manifestKey, sessionKey } from '@dumont/shared/format/layout.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import type { SnapshotRecord } from '@dumont/shared/protocol/snapshot-record.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { WriterSession } from '@dumont/agent/catalogue/writer-session.ts';
import { runStandalone } from '@dumont/agent/commands/run.ts';
import { created, openEngine, type Engine } from '../../../world/engine.ts';

async function run(...argv: readonly string[]) {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const outputs = Promise.all([text(stdout), text(stderr)]);
  const exitCode = await runStandalone(argv, { stdout, stderr, isTty: false }, new AbortController().signal);
  stdout.end();
  stderr.end();
  const [out, err] = await outputs;
  return { exitCode, out, err, json: () => JSON.parse(out) as Record<string, unknown> };
}

/** Bytes that share nothing with those of another seed and do not compress. */
function content(seed: number, length = 300_000): Uint8Array {
  const bytes = new Uint32Array(length / 4);
  for (let at = 0; at < bytes.length; at += 1) bytes[at] = Math.imul(at + seed * 7_919, 0x9e3779b1) ^ (at << 7);
  return new Uint8Array(bytes.buffer);
}

const from = (engine: Engine) => ['--from', `file://${engine.storePath}`] as const;
const namesOf = (engine: Engine, folder: string) => readdir(join(engine.storePath, folder)).catch(() => [] as string[]);

/** Three snapshots, one file each. */
async function threeSnapshots(engine: Engine) {
  const records: SnapshotRecord[] = [];
  for (const seed of [1, 2, 3]) {
    await writeFile(join(engine.root, 'file'), content(seed));
    records.push(created(await engine.restarted().create({ epoch: 0, parent: records.at(-1) ?? null })));
  }
  return records;
}

test('forgotten snapshots free their packs, the others are restored as before, and a second prune has nothing to do', async () => {
  await using engine = await openEngine();
  const [first, , last] = await threeSnapshots(engine);
  const dry = await run('prune', ...from(engine), '--keep-last', '1', '--dry-run', '--json');
  expect(dry.json()).toMatchObject({ kind: 'dry-run', deletedPacks: 2, keptCount: 1 });
  expect(await namesOf(engine, 'packs')).toHaveLength(3);
  const real = await run('prune', ...from(engine), '--keep-last', '1', '--json');
  expect(real).toMatchObject({ exitCode: 0, err: '' });
  expect(real.json()).toMatchObject({ kind: 'pruned', deletedPacks: 2, keptCount: 1, packCount: 3 });
  expect(await namesOf(engine, 'packs')).toHaveLength(1);
  for (const folder of ['prunes', 'sessions', 'revoked', 'index']) {
    const left = await Promise.all((await namesOf(engine, folder)).map((name) => namesOf(engine, `${folder}/${name}`)));
    expect(left.flat(), folder).toEqual([]);
  }
  await engine.restore(last ?? expect.fail());
  expect(await readFile(join(engine.target, 'file'))).toEqual(Buffer.from(content(3)));
  await expect(engine.restore(first ?? expect.fail())).rejects.toMatchObject({ code: 'NOT_FOUND' });
  expect((await run('prune', ...from(engine), '--keep-last', '1')).out).toContain('0 of 1 packs deleted');
});

test('without a rule nothing is forgotten, and garbage goes', async () => {
  await using engine = await openEngine();
  const [first] = await threeSnapshots(engine);
  await engine.store.delete(first?.manifestKey ?? '');
  const outcome = await run('prune', ...from(engine), '--json');
  expect(outcome.json()).toMatchObject({ kind: 'pruned', forgotten: [], keptCount: 2, deletedPacks: 1 });
});

test('a workspace that a control plane manages keeps all its snapshots', async () => {
  await using engine = await openEngine();
  const [, , last] = await threeSnapshots(engine);
  await writeFile(join(engine.root, 'file'), content(4));
  created(await engine.restarted().create({ epoch: 1, parent: last ?? null }));
  const outcome = await run('prune', ...from(engine), '--keep-last', '1');
  expect(outcome.out).toContain('a control plane manages it');
  expect(await namesOf(engine, 'packs')).toHaveLength(4);
});

test('a snapshot being made puts deletion off, unless it is too old; then it cannot commit any more', async () => {
  await using engine = await openEngine();
  await threeSnapshots(engine);
  const snapshotId = newId('snapshot');
  const workspaceId = newId('workspace');
  const { store } = engine;
  await using session = new WriterSession({
    store,
    snapshotId,
    workspaceId,
    writerId: 'w',
    tool: 't/1',
    clock: systemClock,
  });
  await session.open();
  const prune = (...flags: readonly string[]) => run('prune', ...from(engine), '--keep-last', '1', '--json', ...flags);
  const deferred = await prune('--wait', '0s');
  expect(deferred).toMatchObject({ exitCode: 3 });
  expect(deferred.json()).toMatchObject({ kind: 'deferred', waitedFor: [snapshotId], deletedPacks: 0 });
  expect(await namesOf(engine, 'packs')).toHaveLength(3);
  const longAgo = new Date(systemClock.nowMs() - 3_600_000);
  await utimes(join(engine.storePath, sessionKey(snapshotId)), longAgo, longAgo);
  expect((await prune('--revoke-older-than', '30m')).json()).toMatchObject({
    kind: 'pruned',
    revoked: [snapshotId],
    deletedPacks: 2,
  });
  const name = { workspaceId, epoch: 0, seq: 1, snapshotId, writerId: 'w' };
  const late = session.commit(() => store.put(manifestKey(name), content(1, 8)));
  await expect(late).rejects.toMatchObject({ code: 'ABORTED', retryable: true });
  // What arrived late is no snapshot for anybody, and the next prune removes it.
  expect((await run('snapshots', ...from(engine), '--workspace', workspaceId)).out).toContain('no snapshots');
  expect((await run('fsck', ...from(engine))).exitCode).toBe(0);
  await prune();
  expect(await store.stat(manifestKey(name))).toBeNull();
});

test('a long-lived writer whose parent was forgotten is told so; one whose older memory was, goes on', async () => {
  await using engine = await openEngine();
  await writeFile(join(engine.root, 'file'), content(1));
  const first = created(await engine.snapshotter.create({ epoch: 0, parent: null }));
  await writeFile(join(engine.root, 'file'), content(2));
  const second = created(await engine.snapshotter.create({ epoch: 0, parent: first }));
  await run('prune', ...from(engine), '--keep-last', '1');
  await writeFile(join(engine.root, 'file'), content(1));
  const third = created(await engine.snapshotter.create({ epoch: 0, parent: second }));
  await engine.restore(third);
  expect(await readFile(join(engine.target, 'file'))).toEqual(Buffer.from(content(1)));
  await run('prune', ...from(engine), '--keep-last', '1');
  await writeFile(join(engine.root, 'file'), content(5));
  const outcome = engine.snapshotter.create({ epoch: 0, parent: second });
  await expect(outcome).rejects.toMatchObject({ code: 'UNAVAILABLE', retryable: true });
});

test('a retry of a killed snapshot finds the packs its index objects tell of', async () => {
  await using engine = await openEngine();
  await mkdir(join(engine.root, 'data'));
  for (let seed = 0; seed < 4; seed += 1) await writeFile(join(engine.root, `data/${seed}`), content(seed, 15_000_000));
  const record = created(await engine.snapshotter.create({ epoch: 0, parent: null }));
  expect(await namesOf(engine, 'index')).toHaveLength(1);
  // Killed just before the manifest.
  await engine.store.delete(record.manifestKey);
  const again = created(await engine.restarted().create({ epoch: 0, parent: null }));
  expect(again.newBytes).toBe(0);
  await engine.restore(again);
  expect(await readFile(join(engine.target, 'data/3'))).toEqual(Buffer.from(content(3, 15_000_000)));
});

test('fsck tells lost data from what it can repair', async () => {
  await using engine = await openEngine();
  const [first] = await threeSnapshots(engine);
  const fsck = (...flags: readonly string[]) => run('fsck', ...from(engine), '--json', ...flags);
  expect((await fsck()).json()).toMatchObject({ kind: 'good', snapshotCount: 3, packCount: 3, unindexedPacks: 3 });
  expect((await fsck('--repair')).json()).toMatchObject({ kind: 'good', rebuilt: 1 });
  const sound = (await fsck()).json();
  expect(sound).toMatchObject({ kind: 'good', unindexedPacks: 0, stalePacks: 0, indexCount: 1 });
  const [one = '', other = ''] = await namesOf(engine, 'packs');
  await rm(join(engine.storePath, 'packs', one));
  await truncate(join(engine.storePath, 'packs', other), 1_000);
  const damaged = await fsck();
  expect(damaged.exitCode).toBe(1);
  // The short pack, and the two snapshots whose segments lay in these packs.
  expect(damaged.json()).toMatchObject({ kind: 'damaged', problemCount: 3, stalePacks: 1 });
  expect(damaged.out).toContain(`packs/${other}: the pack does not end with our trailer`);
  expect(damaged.out).toContain(`packs/${one}`);
  await writeFile(join(engine.storePath, first?.manifestKey ?? ''), 'garbage');
  expect((await fsck()).out).toContain(String(first?.manifestKey));
  const prune = await run('prune', ...from(engine), '--keep-last', '3');
  expect(prune).toMatchObject({ exitCode: 1 });
  expect(prune.err).toContain('Nothing is deleted while a snapshot cannot be read');
});

test.each(['prune', 'fsck'])('%s does not call a store good that is not there', async (command) => {
  const { exitCode, err } = await run(command, '--from', 'file:///nowhere');
  expect(exitCode).toBe(1);
  expect(err).toContain('there are no snapshots in file:///nowhere');
});

test.each([
  [['--keep-last', 'x'], '--keep-last "x" is not a whole number'],
  [['--keep-within', '7'], '--keep-within "7" is not a time such as'],
  [['--workspace', 'x'], '--workspace x'],
])('prune %j is a usage error', async (flags, message) => {
  const { exitCode, err } = await run('prune', '--from', 'file:///nowhere', ...flags);
  expect(exitCode).toBe(2);
  expect(err).toContain(message);
});

test('a branch keeps what it needs until its manifest is removed, and then the next prune takes only that', async () => {
  await using engine = await openEngine();
  const put = (seed: number) => writeFile(join(engine.root, 'file'), content(seed));
  await put(1);
  const base = created(await engine.restarted().create({ epoch: 1, parent: null }));
  await put(2);
  const branch = created(await engine.restarted().create({ epoch: 1, parent: base }));
  await put(3);
  const head = created(await engine.restarted().create({ epoch: 2, parent: base }));
  const kept = await run('prune', ...from(engine), '--keep-last', '1', '--json');
  expect(kept.json()).toMatchObject({ deletedPacks: 0, keptCount: 3 });
  await rm(join(engine.storePath, branch.manifestKey));
  const freed = await run('prune', ...from(engine), '--keep-last', '1', '--json');
  expect(freed.json()).toMatchObject({ deletedPacks: 1, keptCount: 2 });
  for (const [record, seed] of [
    [base, 1],
    [head, 3],
  ] as const) {
    await engine.restore(record, { deleteExtra: true });
    expect(await readFile(join(engine.target, 'file'))).toEqual(Buffer.from(content(seed)));
  }
});
