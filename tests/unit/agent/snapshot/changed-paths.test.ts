import {
  chmod,
  link,
  lstat,
  lutimes,
  mkdir,
  readdir,
  realpath,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setAttributeSync } from '@napi-rs/xattr';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Manifest } from '@dumont/shared/format/manifest.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { readManifest } from '@dumont/agent/snapshot/manifest-store.ts';
import type { SnapshotOutcome } from '@dumont/agent/snapshot/snapshot-outcome.ts';
import { Snapshotter } from '@dumont/agent/snapshot/snapshotter.ts';
import type { SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import { created, openEngine, type Engine } from '../../../world/engine.ts';

/** A second name for folders and files lets names begin alike: `a`, `a!`, `a/b`, `a0`. */
const NAMES = ['a', 'a!', 'b', 'a0', 'Ü'];
const pathArbitrary = fc.array(fc.constantFrom(...NAMES), { minLength: 1, maxLength: 3 }).map((one) => one.join('/'));

type Edit =
  | { readonly kind: 'write'; readonly path: string; readonly text: string }
  | { readonly kind: 'mkdir' | 'remove' | 'chmod' | 'touch' | 'symlink' | 'xattr' | 'rules'; readonly path: string }
  | { readonly kind: 'rename' | 'link'; readonly path: string; readonly to: string };

const editArbitrary: fc.Arbitrary<Edit> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('write'), path: pathArbitrary, text: fc.string() }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom('mkdir', 'remove', 'chmod', 'touch', 'symlink', 'xattr'),
      path: pathArbitrary,
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('rename'), path: pathArbitrary, to: pathArbitrary }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('link'), path: pathArbitrary, to: pathArbitrary }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('rules'), path: pathArbitrary }) },
);

/** Makes one edit where it is possible. @returns the paths a watcher would tell of */
async function apply(root: string, edit: Edit): Promise<readonly string[]> {
  const at = join(root, edit.path);
  try {
    if (await isThroughLink(root, edit)) return [];
    switch (edit.kind) {
      case 'write':
        await writeFile(at, edit.text);
        return [edit.path];
      case 'mkdir':
        await mkdir(at);
        return [edit.path];
      case 'remove': {
        const gone = await below(root, edit.path);
        await rm(at, { recursive: true });
        return gone;
      }
      case 'chmod':
        await chmod(at, 0o700);
        return [edit.path];
      case 'touch':
        await lutimes(at, 1_600_000_000, 1_600_000_000);
        return [edit.path];
      case 'symlink':
        await symlink('a', at);
        return [edit.path];
      case 'xattr':
        setAttributeSync(at, 'user.note', edit.path);
        return [edit.path];
      case 'rules':
        await writeFile(join(root, '.dumontignore'), `${edit.path}\n`);
        return ['.dumontignore'];
      case 'rename':
        await rename(at, join(root, edit.to));
        // Only the two ends: what lies below a folder need not be told.
        return [edit.path, edit.to];
      case 'link':
        await link(at, join(root, edit.to));
        return [edit.path, edit.to];
    }
  } catch {
    return [];
  }
}

/** A watcher tells of the file that was changed, by its own path: an edit through a link would claim another one. */
async function isThroughLink(root: string, edit: Edit): Promise<boolean> {
  for (const path of 'to' in edit ? [edit.path, edit.to] : [edit.path]) {
    const folder = dirname(join(root, path));
    if ((await realpath(folder)) !== folder) return true;
  }
  const isFollowed = edit.kind === 'write' || edit.kind === 'chmod' || edit.kind === 'xattr' || edit.kind === 'link';
  const last = await lstat(join(root, edit.path)).catch(() => null);
  return isFollowed && last !== null && last.isSymbolicLink();
}

async function below(root: string, path: string): Promise<readonly string[]> {
  if (!(await stat(join(root, path))).isDirectory()) return [path];
  const names = await readdir(join(root, path), { recursive: true });
  return [path, ...names.map((name) => `${path}/${name}`)];
}

/** What a snapshot says of the folder, without what every snapshot has of its own. */
function contentOf({ entries, chunks, priority }: Manifest) {
  const content = entries.map((entry) =>
    entry.type === 'file' ? { ...entry, chunks: entry.chunks.map((row) => chunks[row]?.[0]) } : entry,
  );
  return { content, priority };
}

async function head(engine: Engine, outcome: SnapshotOutcome, parent: SnapshotRef) {
  const ref = outcome.kind === 'created' ? outcome.record : parent;
  const { manifest, root } = await readManifest(engine.store, ref);
  return { ref, tree: contentOf(manifest), segments: root.segments.map(({ first, entries }) => ({ first, entries })) };
}

test('a snapshot of what changed is exactly a snapshot of everything', { timeout: 120_000 }, async () => {
  const rounds = fc.array(fc.array(editArbitrary, { maxLength: 6 }), { minLength: 1, maxLength: 5 });
  await fc.assert(
    fc.asyncProperty(rounds, async (edits) => {
      await using engine = await openEngine();
      for (const path of ['a', 'a/b', 'b', 'b/a', 'b/a/b']) await mkdir(join(engine.root, path));
      for (const path of ['a/a', 'a/b/a', 'b/a/a', 'a0']) await writeFile(join(engine.root, path), path);
      let parent: SnapshotRef = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
      for (const round of edits) {
        const changed = new Set<string>();
        for (const edit of round) for (const path of await apply(engine.root, edit)) changed.add(path);
        const next = await head(engine, await engine.snapshotter.create({ epoch: 1, parent, changed }), parent);
        const full = await head(engine, await engine.restarted().create({ epoch: 1, parent }), parent);
        expect(next.tree).toEqual(full.tree);
        expect(next.segments).toEqual(full.segments);
        parent = next.ref;
      }
    }),
    { numRuns: 60 },
  );
});

test('only what is said to have changed is looked at, for a minute', async () => {
  await using engine = await openEngine();
  let nowMs = 0;
  const clock = { ...systemClock, monotonicMs: () => nowMs };
  const { store, root } = engine;
  const workspaceId = 'ws_00000000000000000000' as ConstructorParameters<typeof Snapshotter>[0]['workspaceId'];
  const snapshotter = new Snapshotter({ store, root, workspaceId, writerId: 't', clock, toolVersion: 't' });
  await writeFile(join(root, 'told'), 'one');
  await writeFile(join(root, 'untold'), 'one');
  const parent = created(await snapshotter.create({ epoch: 0, parent: null }));
  await writeFile(join(root, 'untold'), 'two!');
  // The files were changed a moment before they were read, so they are looked at once more in any case: unless that moment
  // was longer than a tick of the file system's clock.
  const second = created(await snapshotter.create({ epoch: 0, parent, changed: new Set(['untold']) }));
  await new Promise((resolve) => systemClock.after(60, () => resolve(undefined)));
  expect((await snapshotter.create({ epoch: 0, parent: second, changed: new Set() })).kind).toBe('unchanged');
  await writeFile(join(root, 'untold'), 'three!!');
  expect((await snapshotter.create({ epoch: 0, parent: second, changed: new Set(['told']) })).kind).toBe('unchanged');
  nowMs += 61_000;
  expect((await snapshotter.create({ epoch: 0, parent: second, changed: new Set() })).kind).toBe('created');
});
