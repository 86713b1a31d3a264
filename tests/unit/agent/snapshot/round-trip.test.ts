import { execFileSync, spawnSync } from 'node:child_process';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { readManifest } from '@dumont/agent/snapshot/manifest-store.ts';
import { created, openEngine } from '../../../world/engine.ts';
import { differences, makeTree, seeTree, type TreeNode } from '../../../world/tree.ts';

const hasLz4 = spawnSync('lz4', ['--version']).status === 0;

const anyPathName = fc.oneof(
  fc.constantFrom(
    'a',
    'b',
    'Ä ö',
    '-rf',
    '--',
    'new\nline',
    '\u0001',
    '..x',
    '.hidden',
    'é',
    'e\u0301',
    '日本',
    '😀',
    '*',
    'q\'"',
    'x\\y',
    ' ',
  ),
  fc.stringMatching(/^[a-z]{1,8}$/),
  fc.constant('n'.repeat(255)),
);
const anyPath = fc.array(anyPathName, { minLength: 1, maxLength: 5 }).map((names) => names.join('/'));
const anyContent = fc.oneof(
  fc.uint8Array({ maxLength: 300 }),
  fc
    .tuple(fc.integer({ min: 0, max: 3_200_000 }), fc.uint8Array({ minLength: 1, maxLength: 9 }))
    .map(([size, unit]) => Buffer.alloc(size, unit)),
  fc.integer({ min: 0, max: 4 }).map((mebibytes) => Buffer.alloc(mebibytes * 1_048_576)),
);
const anyTime = fc.double({ min: -1e12, max: 4e12, noNaN: true });
const anyNode: fc.Arbitrary<TreeNode> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('file' as const),
      content: anyContent,
      mode: fc.integer({ min: 0, max: 0o7777 }),
      mtimeMs: anyTime,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('dir' as const),
      mode: fc.integer({ min: 0, max: 0o7777 }),
      mtimeMs: anyTime,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('symlink' as const),
      target: fc.constantFrom('/etc/passwd', '..', 'a', 'no where', '\n'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('hardlink' as const), target: fc.constant('') }) },
);

/** Drops what cannot be on a disk together: something below a file, links to nothing. */
function consistent(nodes: readonly (readonly [string, TreeNode])[]): Record<string, TreeNode> {
  const tree: Record<string, TreeNode> = {};
  for (const [path, node] of nodes) {
    const paths = Object.keys(tree);
    const above = paths.some(
      (other) => path === other || (path.startsWith(`${other}/`) && tree[other]?.kind !== 'dir'),
    );
    const below = node.kind !== 'dir' && paths.some((other) => other.startsWith(`${path}/`));
    if (above || below) continue;
    if (node.kind !== 'hardlink') tree[path] = node;
    else {
      const target = paths.find((other) => tree[other]?.kind === 'file');
      if (target !== undefined) tree[path] = { kind: 'hardlink', target };
    }
  }
  return tree;
}

const anyTree = fc.array(fc.tuple(anyPath, anyNode), { maxLength: 12 }).map(consistent);

test('any tree comes back as it was, restoring again changes nothing, and a copy counts as unchanged', async () => {
  await fc.assert(
    fc.asyncProperty(anyTree, async (tree) => {
      await using engine = await openEngine();
      await makeTree(engine.root, tree);
      const before = await seeTree(engine.root);
      const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
      expect(record.tornPaths).toEqual([]);
      const first = await engine.restore(record);
      expect(differences(before, await seeTree(engine.target))).toEqual([]);
      expect(differences(before, await seeTree(engine.root))).toEqual([]);
      const again = await engine.restore(record, { deleteExtra: true });
      expect(differences(before, await seeTree(engine.target))).toEqual([]);
      expect(again).toMatchObject({ bytesWritten: 0, chunksFetched: 0, removedCount: 0, fileCount: first.fileCount });
      const copy = engine.restarted(engine.target);
      expect((await copy.create({ epoch: 2, parent: record })).kind).toBe('unchanged');
    }),
    { numRuns: 40 },
  );
});

test('a restore with deletion turns any tree into any other', async () => {
  await fc.assert(
    fc.asyncProperty(anyTree, anyTree, async (tree, other) => {
      await using engine = await openEngine();
      await makeTree(engine.root, tree);
      await makeTree(engine.target, { ...other, keep: { kind: 'dir' } });
      const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
      await engine.restore(record, { deleteExtra: true });
      expect(differences(await seeTree(engine.root), await seeTree(engine.target))).toEqual([]);
    }),
    { numRuns: 30 },
  );
});

test.skipIf(!hasLz4)(
  'the lz4 command, where it is installed, verifies a pack and unpacks its chunks in order',
  async () => {
    await using engine = await openEngine();
    const random = crypto.getRandomValues(Buffer.alloc(60_000));
    await makeTree(engine.root, {
      'a.txt': { kind: 'file', content: Buffer.alloc(2_500_000, 'text that repeats ') },
      'b.bin': { kind: 'file', content: random },
    });
    const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
    const [pack = ''] = await readdir(join(engine.storePath, 'packs'));
    const path = join(engine.storePath, 'packs', pack);
    execFileSync('lz4', ['-tq', path]);
    const unpacked = execFileSync('lz4', ['-dcq', path], { maxBuffer: 1 << 25 });
    const { manifest, root } = await readManifest(engine.store, record);
    const chunks = [...manifest.chunks, ...root.chunks];
    expect(unpacked.length).toBe(chunks.reduce((sum, chunk) => sum + chunk[4], 0));
    expect(unpacked.includes(random)).toBe(true);
    expect((await stat(path)).size).toBeLessThan(200_000);
    const json = execFileSync('lz4', ['-dcq', join(engine.storePath, record.manifestKey)]);
    expect(JSON.parse(json.toString())).toEqual(root);
  },
);

test('many packs are written and read when a workspace is larger than one', async () => {
  await using engine = await openEngine();
  const content = Buffer.alloc(150 * 1_048_576);
  for (let at = 0; at < content.length; at += 65_536) crypto.getRandomValues(content.subarray(at, at + 65_536));
  await makeTree(engine.root, { 'model.bin': { kind: 'file', content }, 'other.bin': { kind: 'file', content } });
  const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  expect(record.newBytes).toBe(content.length);
  expect((await readdir(join(engine.storePath, 'packs'))).length).toBeGreaterThanOrEqual(4);
  const outcome = await engine.restore(record);
  expect(outcome.bytesWritten).toBe(2 * content.length);
  expect(outcome.bytesFetched).toBeLessThan(content.length * 1.01);
  expect(Buffer.compare(await readFile(join(engine.target, 'other.bin')), content)).toBe(0);
});
