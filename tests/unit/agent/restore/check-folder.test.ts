import { chmod, open, rename, rm, symlink, truncate, unlink, writeFile } from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { checkFolder } from '@dumont/agent/restore/check-folder.ts';
import { readManifest } from '@dumont/agent/snapshot/manifest-store.ts';
import { loadIgnoreRules } from '@dumont/agent/workspace/ignore.ts';
import type { SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { expect, test } from 'vitest';
import { created, openEngine, type Engine } from '../../../world/engine.ts';
import { makeTree } from '../../../world/tree.ts';

const BIG = randomBytes(3_000_000);

async function restored(engine: Engine): Promise<SnapshotRef> {
  await makeTree(engine.root, {
    'a/big.bin': { kind: 'file', content: BIG },
    'a/empty': { kind: 'file', content: Buffer.alloc(0) },
    'a/linked': { kind: 'hardlink', target: 'a/big.bin' },
    'run.sh': { kind: 'file', content: Buffer.from('#!/bin/sh\n'), mode: 0o755 },
    now: { kind: 'symlink', target: 'a/big.bin' },
    outputs: { kind: 'dir' },
  });
  // Half a hole: what it does not hold is in no chunk.
  await writeFile(join(engine.root, 'sparse'), Buffer.alloc(70_000, 'x'));
  await truncate(join(engine.root, 'sparse'), 9_000_000);
  const snapshot = created(await engine.snapshotter.create({ epoch: 0, parent: null }));
  await engine.restore(snapshot);
  return snapshot;
}

async function check(engine: Engine, snapshot: SnapshotRef) {
  const { manifest } = await readManifest(engine.store, snapshot);
  const ignore = await loadIgnoreRules(engine.target);
  return checkFolder({
    root: engine.target,
    manifest,
    secrets: null,
    ignore,
    clock: systemClock,
    onProgress: () => {},
    signal: new AbortController().signal,
  });
}

test('a restored folder is found to be what the snapshot says, to the last byte', async () => {
  await using engine = await openEngine();
  const snapshot = await restored(engine);
  const found = await check(engine, snapshot);
  expect(found).toMatchObject({ ok: true, differenceCount: 0, differences: [], fileCount: 4, entryCount: 8 });
  expect(found.actualTree).toBe(found.expectedTree);
  expect(found.bytes).toBeGreaterThan(BIG.length);
});

test.each([
  ['one byte that differs', 'a/big.bin: other content', (at: string) => writeFile(join(at, 'a/big.bin'), flipped(BIG))],
  [
    'a shorter file',
    'a/big.bin: is 5 bytes long, should be 3000000',
    (at: string) => truncate(join(at, 'a/big.bin'), 5),
  ],
  [
    'a byte in a hole',
    'sparse: other content',
    async (at: string) => {
      await using file = await open(join(at, 'sparse'), 'r+');
      await file.write('x', 5_000_000);
    },
  ],
  ['another mode', 'run.sh: has mode 644, should have 755', (at: string) => chmod(join(at, 'run.sh'), 0o644)],
  ['a missing file', 'a/empty: missing', (at: string) => unlink(join(at, 'a/empty'))],
  ['a missing folder', 'outputs: missing', (at: string) => rm(join(at, 'outputs'), { recursive: true })],
  ['a file too many', 'stranger: not in the snapshot', (at: string) => writeFile(join(at, 'stranger'), '')],
  [
    'a link that leads elsewhere',
    'now: leads to a, should lead to a/big.bin',
    async (at: string) => {
      await unlink(join(at, 'now'));
      await symlink('a', join(at, 'now'));
    },
  ],
  [
    'a copy in place of a hard link',
    'a/linked: leads to another file, should lead to a/big.bin',
    async (at: string) => {
      await writeFile(join(at, 'copy'), BIG);
      await rename(join(at, 'copy'), join(at, 'a/linked'));
    },
  ],
] as const)('%s is found', async (_, difference, change) => {
  await using engine = await openEngine();
  const snapshot = await restored(engine);
  await change(engine.target);
  const found = await check(engine, snapshot);
  expect(found.ok).toBe(false);
  expect(found.differences).toContain(difference);
  expect(found.actualTree).not.toBe(found.expectedTree);
});

function flipped(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  copy[1_500_000] = (copy[1_500_000] ?? 0) ^ 1;
  return copy;
}
