import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { statSync, writeFileSync } from 'node:fs';
import { chmod, link, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { hashHex } from '@dumont/agent/snapshot/chunk-codec.ts';
import { CutWindow } from '@dumont/agent/snapshot/cdc/cut-window.ts';
import { readFileChunks, readPartChunks, type FileRead, type ReadChunk } from '@dumont/agent/snapshot/file-reader.ts';
import { readManifest, readSnapshot } from '@dumont/agent/snapshot/manifest-store.ts';
import { holdSnapshot } from '@dumont/agent/snapshot/loaded-snapshot.ts';
import { readTree } from '@dumont/agent/snapshot/tree-reader.ts';
import { loadIgnoreRules } from '@dumont/agent/workspace/ignore.ts';
import { scanWorkspace } from '@dumont/agent/workspace/scan.ts';
import { created, openEngine } from '../../../world/engine.ts';

/** Uniform content is cut every 4 MiB, so that what is done per chunk below happens between two reads of a file. */
const MIB = 1_048_576;

/** Reads a file, with something done between its chunks. */
function readSlowly(path: string, onChunk: (chunk: ReadChunk) => void = () => {}): FileRead {
  const chunks = readFileChunks(path, { clock: systemClock, window: new CutWindow(), toId: hashHex });
  for (let step = chunks.next(); ; step = chunks.next()) {
    if (step.done === true) return step.value;
    onChunk(step.value);
  }
}

/** A process that keeps changing the file until disposed. */
async function startWriter(mode: 'append' | 'rewrite', path: string, size = 0): Promise<AsyncDisposable> {
  const script = join(import.meta.dirname, 'writer-child.ts');
  const child = spawn(process.execPath, [script, mode, path, String(size)], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  return {
    async [Symbol.asyncDispose]() {
      const closed = once(child, 'close');
      child.kill('SIGKILL');
      await closed;
    },
  };
}

test('a log that grows all the time is captured as a true prefix and is not torn', async () => {
  await using engine = await openEngine();
  const path = join(engine.root, 'train.log');
  await writeFile(path, 'line of the past\n'.repeat(200_000));
  await using _writer = await startWriter('append', path);
  let parent = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  expect(parent.tornPaths).toEqual([]);
  for (let round = 0; round < 5; round += 1) {
    await engine.restore(parent);
    const captured = await readFile(join(engine.target, 'train.log'));
    const now = await readFile(path);
    expect(Buffer.compare(captured, now.subarray(0, captured.length))).toBe(0);
    const next = await engine.snapshotter.create({ epoch: 1, parent });
    expect(next.tornPaths).toEqual([]);
    // On a busy machine the writer may not have had a turn.
    if (next.kind === 'created') parent = next.record;
  }
});

test('a file rewritten faster than it can be read is torn, and its last good version is kept', async () => {
  await using engine = await openEngine();
  const path = join(engine.root, 'checkpoint.pt');
  const good = Buffer.alloc(8 * MIB, 'good');
  await writeFile(path, good);
  const first = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  {
    await using _writer = await startWriter('rewrite', path, 8 * MIB);
    await writeFile(join(engine.root, 'other'), 'changed too');
    const second = created(await engine.snapshotter.create({ epoch: 1, parent: first }));
    if (second.tornPaths.length > 0) {
      expect(second.tornPaths).toEqual(['checkpoint.pt']);
      await engine.restore(second);
      expect(Buffer.compare(await readFile(join(engine.target, 'checkpoint.pt')), good)).toBe(0);
    }
  }
  const third = created(await engine.snapshotter.create({ epoch: 1, parent: first }));
  expect(third.tornPaths).toEqual([]);
});

test('every pass sees another state: torn; without an earlier version the content is kept and flagged', async () => {
  await using engine = await openEngine();
  const path = join(engine.root, 'f');
  await writeFile(path, Buffer.alloc(8 * MIB, 'a'));
  let writes = 0;
  const read = readSlowly(path, () => {
    writes += 1;
    writeFileSync(path, Buffer.alloc(8 * MIB, String(writes)), { flag: 'r+' });
  });
  expect(read).toMatchObject({ kind: 'read', torn: true, settled: false, sizeBytes: 8 * MIB });
});

test('a change between two passes that ends is read again and is not torn', async () => {
  await using engine = await openEngine();
  const path = join(engine.root, 'f');
  await writeFile(path, Buffer.alloc(8 * MIB, 'a'));
  let isFirst = true;
  const seen: number[] = [];
  const read = readSlowly(path, ({ raw }) => {
    seen.push(raw[0] ?? 0);
    if (isFirst) writeFileSync(path, Buffer.alloc(8 * MIB, 'b'), { flag: 'r+' });
    isFirst = false;
  });
  expect(read).toMatchObject({ kind: 'read', torn: false });
  expect(seen.slice(0, 4)).toEqual([97, 98, 98, 98]);
});

test('a file that shrinks or vanishes while it is read does no harm', async () => {
  await using engine = await openEngine();
  const path = join(engine.root, 'f');
  await writeFile(path, Buffer.alloc(8 * MIB, 'a'));
  let isFirst = true;
  const read = readSlowly(path, () => {
    if (isFirst) writeFileSync(path, 'short');
    isFirst = false;
  });
  expect(read).toMatchObject({ kind: 'read', torn: false, sizeBytes: 5 });
  await rm(path);
  expect(readSlowly(path)).toEqual({ kind: 'vanished' });
});

test('a part of a file is only taken while the file is in the state that was planned for', async () => {
  await using engine = await openEngine();
  const path = join(engine.root, 'f');
  await writeFile(path, Buffer.alloc(8 * MIB, 'a'));
  const segments = [{ offset: 4 * MIB, length: 4 * MIB, cut: 'fixed' as const }];
  const options = { clock: systemClock, window: new CutWindow(), toId: hashHex };
  const state = statSync(path, { bigint: true });
  const untouched = readPartChunks(path, { state, segments }, options);
  const chunkId = hashHex(Buffer.alloc(4 * MIB, 'a'));
  expect(untouched.next().value).toMatchObject({ offset: 4 * MIB, length: 4 * MIB, chunkId });
  expect(untouched.next()).toEqual({ done: true, value: [chunkId] });
  const touched = readPartChunks(path, { state, segments }, options);
  touched.next();
  writeFileSync(path, Buffer.alloc(8 * MIB + 1, 'b'));
  expect(touched.next()).toEqual({ done: true, value: null });
  expect(readPartChunks(path, { state, segments }, options).next()).toEqual({ done: true, value: null });
  await rm(path);
  expect(readPartChunks(path, { state, segments }, options).next()).toEqual({ done: true, value: null });
});

test('hard links survive when the first of them vanishes during the snapshot', async () => {
  await using engine = await openEngine();
  await writeFile(join(engine.root, 'a'), 'content');
  await link(join(engine.root, 'a'), join(engine.root, 'b'));
  await link(join(engine.root, 'a'), join(engine.root, 'c'));
  await writeFile(join(engine.root, '0'), 'read before the others');
  const first = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  await rm(join(engine.root, 'a'));
  const second = created(await engine.snapshotter.create({ epoch: 1, parent: first }));
  const { manifest } = await readManifest(engine.store, second);
  expect(manifest.entries).toMatchObject([
    { path: '0', type: 'file' },
    { path: 'b', type: 'file' },
    { path: 'c', type: 'hardlink', target: 'b' },
  ]);
});

test.skipIf(process.getuid?.() === 0)(
  'an unreadable file or folder keeps its last good version and is named',
  async () => {
    await using engine = await openEngine();
    await writeFile(join(engine.root, 'secret'), 'content');
    const first = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
    await chmod(join(engine.root, 'secret'), 0);
    await writeFile(join(engine.root, 'other'), 'content');
    const outcome = await engine.snapshotter.create({ epoch: 1, parent: first });
    expect(outcome.skipped).toMatchObject([{ path: 'secret', kind: 'unreadable', reason: 'EACCES' }]);
    await engine.restore(created(outcome));
    expect(await readFile(join(engine.target, 'secret'), 'utf8')).toBe('content');
  },
);

test('what lies in a folder that cannot be read now stays as the parent has it', async () => {
  await using engine = await openEngine();
  await mkdir(join(engine.root, 'd/sub'), { recursive: true });
  await writeFile(join(engine.root, 'd/sub/f'), 'content');
  await link(join(engine.root, 'd/sub/f'), join(engine.root, 'd/sub/g'));
  const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  const parent = holdSnapshot(await readSnapshot(engine.store, record));
  const seen = await scanWorkspace(engine.root, await loadIgnoreRules(engine.root));
  const { entries } = await readTree({
    root: engine.root,
    scan: {
      entries: seen.entries.filter((entry) => entry.path === 'd'),
      skipped: [{ path: 'd', kind: 'unreadable', reason: 'EACCES' }],
    },
    startedAtMs: systemClock.nowMs(),
    parent,
    memory: null,
    bases: null,
    pipeline: { readFiles: () => Promise.resolve() },
    isStored: () => true,
  });
  expect(entries.map(({ draft }) => draft)).toMatchObject([
    { path: 'd', type: 'dir' },
    { path: 'd/sub', type: 'dir' },
    { path: 'd/sub/f', type: 'file', size: 7 },
    { path: 'd/sub/g', type: 'file', size: 7 },
  ]);
});
