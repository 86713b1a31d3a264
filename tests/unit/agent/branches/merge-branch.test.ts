import { link, lstat, mkdir, readdir, readFile, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { mergeBranch, type MergeBranchOptions } from '@dumont/agent/branches/merge-branch.ts';
import type { MergeStrategy } from '@dumont/shared/model/branch.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import type { SnapshotRecord } from '@dumont/shared/protocol/snapshot-record.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { created, openEngine, type Engine } from '../../../world/engine.ts';
import { makeTree, seeTree, type TreeNode } from '../../../world/tree.ts';

type Files = Readonly<Record<string, string | TreeNode>>;

/** The old machine's folder is the engine's root, the new one's its target; both began with the base. */
class Story implements AsyncDisposable {
  readonly engine: Engine;
  readonly base: SnapshotRecord;
  readonly branchId = newId('branch');

  private constructor(engine: Engine, base: SnapshotRecord) {
    this.engine = engine;
    this.base = base;
  }

  static async begin(files: Files): Promise<Story> {
    const engine = await openEngine();
    await put(engine.root, files);
    const base = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
    await engine.restore(base);
    return new Story(engine, base);
  }

  /** What the old machine held when it was fenced. */
  async branch(): Promise<SnapshotRecord> {
    return created(await this.engine.snapshotter.create({ epoch: 1, parent: this.base }));
  }

  /** What the new one published last. */
  async head(): Promise<SnapshotRecord> {
    const outcome = await this.engine.restarted(this.engine.target).create({ epoch: 2, parent: this.base });
    return outcome.kind === 'created' ? outcome.record : this.base;
  }

  async merge(strategy: MergeStrategy = 'side-by-side', over: Partial<MergeBranchOptions> = {}) {
    const branch = over.branch ?? (await this.branch());
    const head = over.head ?? (await this.head());
    const { store, target: root } = this.engine;
    const { signal } = new AbortController();
    const { branchId, base } = this;
    const secretsFor = () => Promise.resolve(null);
    const order = { store, secretsFor, root, clock: systemClock, branchId, base, strategy, signal };
    return mergeBranch({ ...order, ...over, branch, head });
  }

  read(path: string): Promise<string> {
    return readFile(join(this.engine.target, path), 'utf8');
  }

  beside(path: string): string {
    return `${path}.branch-${this.branchId}`;
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.engine[Symbol.asyncDispose]();
  }
}

function put(root: string, files: Files): Promise<void> {
  const nodes = Object.entries(files).map(([path, node]) => {
    return [path, typeof node === 'string' ? ({ kind: 'file', content: Buffer.from(node) } as const) : node] as const;
  });
  return makeTree(root, Object.fromEntries(nodes));
}

/** With a time of its own: the same time means the same content to whoever looks at a folder. */
async function write(root: string, path: string, text: string, seconds: number): Promise<void> {
  await writeFile(join(root, path), text);
  await utimes(join(root, path), seconds, seconds);
}

test('brings files, folders, links and modes of the branch, and leaves everything else alone', async () => {
  await using story = await Story.begin({ 'a.txt': 'base', 'same.txt': 'base', 'run.sh': 'base' });
  const { root, target } = story.engine;
  await put(root, {
    'new/deep/file.bin': { kind: 'file', content: Buffer.alloc(700_000, 'late '), mode: 0o640 },
    'new/empty': { kind: 'dir', mode: 0o700 },
    'new/link': { kind: 'symlink', target: 'deep/file.bin' },
    'run.sh': { kind: 'file', content: Buffer.from('base'), mode: 0o755 },
  });
  await link(join(root, 'new/deep/file.bin'), join(root, 'new/hard.bin'));
  await write(root, 'a.txt', 'late', 1_800_000_000);
  await write(target, 'mine.txt', 'by the new machine', 1_800_000_001);
  const merge = await story.merge();
  expect(merge.counts).toEqual({ taken: 8, beside: 0, same: 0, kept: 0, deleted: 0 });
  const [theirs, ours] = [await seeTree(root), await seeTree(target)];
  ours.delete('mine.txt');
  expect(new Set(ours.keys())).toEqual(new Set(theirs.keys()));
  for (const [path, node] of theirs) {
    expect(ours.get(path), path).toMatchObject({
      kind: node.kind,
      content: node.content,
      mode: node.mode,
      links: node.links,
    });
  }
  expect(await story.read('mine.txt')).toBe('by the new machine');
});

test('puts what both changed beside, by default, and overwrites it only when told to', async () => {
  await using story = await Story.begin({ 'model.pt': 'base' });
  const { root, target } = story.engine;
  await write(root, 'model.pt', 'late', 1_800_000_000);
  await write(target, 'model.pt', 'newer', 1_800_000_500);
  const merge = await story.merge();
  expect(merge.paths).toEqual([{ path: 'model.pt', outcome: 'beside', as: story.beside('model.pt') }]);
  expect([await story.read('model.pt'), await story.read(story.beside('model.pt'))]).toEqual(['newer', 'late']);
  // Again, also after the user has worked with it: nothing of the user's is touched.
  expect((await story.merge()).counts).toMatchObject({ beside: 1, kept: 0 });
  await write(target, story.beside('model.pt'), 'looked at', 1_800_000_600);
  expect((await story.merge()).counts).toMatchObject({ beside: 0, kept: 1 });
  expect(await story.read(story.beside('model.pt'))).toBe('looked at');
  expect((await story.merge('newest')).counts).toMatchObject({ kept: 1 });
  expect((await story.merge('ours')).counts).toMatchObject({ kept: 1 });
  expect(await story.read('model.pt')).toBe('newer');
  expect((await story.merge('theirs')).counts).toMatchObject({ taken: 1 });
  expect(await story.read('model.pt')).toBe('late');
});

test('takes a file for changed that is written between the snapshot and the merge', async () => {
  await using story = await Story.begin({ 'a.txt': 'base', 'b.txt': 'base' });
  const { root, target } = story.engine;
  for (const path of ['a.txt', 'b.txt', 'c.txt']) await write(root, path, 'late', 1_800_000_000);
  const [branch, head] = [await story.branch(), await story.head()];
  await write(target, 'b.txt', 'just now', 1_800_000_100);
  await write(target, 'c.txt', 'just now', 1_800_000_100);
  const merge = await story.merge('side-by-side', { branch, head });
  expect(merge.counts).toEqual({ taken: 1, beside: 2, same: 0, kept: 0, deleted: 0 });
  expect(await Promise.all(['a.txt', 'b.txt', 'c.txt'].map((path) => story.read(path)))).toEqual([
    'late',
    'just now',
    'just now',
  ]);
});

test('deletes only with theirs, and never a folder in which something else lies', async () => {
  await using story = await Story.begin({ 'old/a.txt': 'base', 'old/b.txt': 'base', 'gone.txt': 'base' });
  const { root, target } = story.engine;
  await rm(join(root, 'old'), { recursive: true });
  await rm(join(root, 'gone.txt'));
  expect((await story.merge()).counts).toMatchObject({ kept: 4, deleted: 0 });
  const [branch, head] = [await story.branch(), await story.head()];
  await write(target, 'old/mine.txt', 'mine', 1_800_000_000);
  const merge = await story.merge('theirs', { branch, head });
  expect(merge.counts).toMatchObject({ deleted: 3, kept: 1 });
  expect(await readdir(join(target, 'old'))).toEqual(['mine.txt']);
});

test('never writes through a symlink, nor over a folder', async () => {
  await using story = await Story.begin({ 'data/a.txt': 'base', 'plain.txt': 'base' });
  const { root, target } = story.engine;
  await write(root, 'data/a.txt', 'late', 1_800_000_000);
  await write(root, 'data/b.txt', 'late', 1_800_000_000);
  await write(root, 'plain.txt', 'late', 1_800_000_000);
  const outside = join(target, '../outside');
  await mkdir(outside);
  await rm(join(target, 'data'), { recursive: true });
  await symlink(outside, join(target, 'data'));
  await rm(join(target, 'plain.txt'));
  await mkdir(join(target, 'plain.txt'));
  const merge = await story.merge('theirs');
  expect(merge.counts).toMatchObject({ beside: 3, taken: 0 });
  expect(await readdir(outside)).toEqual([]);
  expect((await lstat(join(target, 'data'))).isSymbolicLink()).toBe(true);
  expect(await readdir(join(target, story.beside('data')))).toEqual(['a.txt', 'b.txt']);
  expect(await story.read(story.beside('plain.txt'))).toBe('late');
});

test('a damaged pack is found before anything of the folder changes', async () => {
  await using story = await Story.begin({ 'a.txt': 'base' });
  const { root, target, storePath } = story.engine;
  const before = await readdir(join(storePath, 'packs'));
  await put(root, { 'big.bin': { kind: 'file', content: Buffer.alloc(400_000, 'late ') }, 'b.txt': 'late' });
  const [branch, head] = [await story.branch(), await story.head()];
  for (const name of await readdir(join(storePath, 'packs'))) {
    if (before.includes(name)) continue;
    const path = join(storePath, 'packs', name);
    const bytes = await readFile(path);
    bytes[20] = (bytes[20] ?? 0) ^ 0xff;
    bytes[40] = (bytes[40] ?? 0) ^ 0xff;
    await writeFile(path, bytes);
  }
  await expect(story.merge('theirs', { branch, head })).rejects.toMatchObject({ code: 'CORRUPT' });
  expect(await readdir(target)).toEqual(['a.txt']);
});

test('a name too long for the suffix is shortened, by whole characters', async () => {
  const name = `${'é'.repeat(120)}.txt`;
  await using story = await Story.begin({ [name]: 'base' });
  await write(story.engine.root, name, 'late', 1_800_000_000);
  await write(story.engine.target, name, 'newer', 1_800_000_001);
  const [placed] = (await story.merge()).paths;
  expect(placed?.outcome).toBe('beside');
  expect(Buffer.byteLength(placed?.as ?? '')).toBeLessThanOrEqual(255);
  expect((await stat(join(story.engine.target, placed?.as ?? ''))).size).toBe(4);
});
