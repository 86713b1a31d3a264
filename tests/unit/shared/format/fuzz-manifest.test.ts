import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decodeManifest, encodeManifest, type Manifest } from '@dumont/shared/format/manifest.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { fuzz, mutate, mutateJson } from '../../../world/fuzz.ts';

const BUDGET = 1_048_576;
const metadata = { mode: 0o644, uid: 0, gid: 0, mtimeNs: '1700000000000000000' };

const good: Manifest = {
  formatVersion: 1,
  tool: 'test/1',
  workspaceId: newId('workspace'),
  snapshotId: newId('snapshot'),
  writerId: 'test',
  epoch: 1,
  seq: 2,
  parent: null,
  startedAtMs: 1_700_000_000_000,
  packs: ['0'.repeat(32), '1'.repeat(32)],
  chunks: [
    ['a'.repeat(64), 0, 0, 90, 100, 'lz4'],
    ['b'.repeat(64), 1, 0, 50, 100, 'stored'],
  ],
  entries: [
    { type: 'dir', path: 'a', ...metadata },
    { type: 'file', path: 'a/b', ...metadata, size: 200, chunks: [0, 1] },
    { type: 'hardlink', path: 'a/c', target: 'a/b' },
    { type: 'symlink', path: 'a/d', ...metadata, target: '/anywhere' },
    { type: 'file', path: 'z', ...metadata, size: 0, chunks: [] },
  ],
};

/** What a reader relies on without looking again. */
function expectSafe({ entries, chunks, packs }: Manifest): void {
  const seen = new Map<string, string>();
  for (const entry of entries) {
    const names = entry.path.split('/');
    expect(names.some((name) => name === '' || name === '.' || name === '..' || name.includes('\0'))).toBe(false);
    expect(seen.has(entry.path)).toBe(false);
    if (names.length > 1) expect(seen.get(names.slice(0, -1).join('/'))).toBe('dir');
    seen.set(entry.path, entry.type);
    if (entry.type !== 'file') continue;
    const covered = entry.chunks.reduce((sum, row) => sum + (chunks[row]?.[4] ?? Number.NaN), 0);
    const empty = (entry.holes ?? []).reduce((sum, [, length]) => sum + length, 0);
    expect(covered + empty).toBe(entry.size);
  }
  for (const [, pack] of chunks) expect(packs[pack]).toBeDefined();
}

test('any change to a manifest makes another safe one, or is refused', async () => {
  const { accepted, refused } = await fuzz({ inputs: 12_000, maxAllocatedBytes: BUDGET }, (input) => {
    const changed = mutateJson(good, seededRandom(input));
    expectSafe(decodeManifest(Buffer.from(JSON.stringify(changed))));
  });
  expect(Math.min(accepted, refused)).toBeGreaterThan(200);
});

test('any change to the bytes of a manifest makes another safe one, or is refused', async () => {
  const bytes = encodeManifest(good);
  const { refused } = await fuzz({ inputs: 8_000, maxAllocatedBytes: BUDGET }, (input) => {
    expectSafe(decodeManifest(mutate(bytes, seededRandom(input))));
  });
  expect(refused).toBeGreaterThan(1_000);
});

test('any tree of names makes a safe manifest, or is refused', async () => {
  const name = fc.oneof(fc.constantFrom('a', 'b', '..', '.', '', 'a\0', '\uD800', 'é'.repeat(130)), fc.string());
  const path = fc.array(name, { minLength: 1, maxLength: 3 }).map((names) => names.join('/'));
  const entry = fc.oneof(
    path.map((at) => ({ type: 'dir', path: at, ...metadata })),
    path.map((at) => ({ type: 'file', path: at, ...metadata, size: 100, chunks: [0] })),
    fc.tuple(path, path).map(([at, target]) => Object.assign({ type: 'symlink', path: at, target }, metadata)),
    fc.tuple(path, path).map(([at, target]) => ({ type: 'hardlink', path: at, target })),
  );
  const trees = fc.sample(fc.array(entry, { maxLength: 6 }), { numRuns: 5_000, seed: 1 });
  const { accepted, refused } = await fuzz({ inputs: trees.length, maxAllocatedBytes: BUDGET }, (input) => {
    expectSafe(decodeManifest(Buffer.from(JSON.stringify({ ...good, entries: trees[input] }))));
  });
  expect(Math.min(accepted, refused)).toBeGreaterThan(200);
});
