import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  decodeRoot,
  encodeRoot,
  type Entry,
  type Manifest,
  type ManifestRoot,
} from '@dumont/shared/format/manifest.ts';
import { decodeSegment, encodeSegment, joinSegments, type Segment } from '@dumont/shared/format/segment.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { fuzz, mutate, mutateJson } from '../../../world/fuzz.ts';

const BUDGET = 1_048_576;
const metadata = { mode: 0o644, uid: 0, gid: 0, mtimeNs: '1700000000000000000' };

const entries: readonly Entry[] = [
  { type: 'dir', path: 'a', ...metadata },
  { type: 'file', path: 'a/b', ...metadata, size: 200, chunks: [0, 1] },
  { type: 'hardlink', path: 'a/c', target: 'a/b' },
  { type: 'symlink', path: 'a/d', ...metadata, target: '/anywhere' },
  { type: 'file', path: 'z', ...metadata, size: 300, chunks: [], holes: [[0, 300]] },
];

/** A root and its one segment, as they are stored. */
interface Parts {
  readonly root: ManifestRoot;
  readonly segment: Segment;
}

/** What a correct writer stores for these entries. */
function partsOf(list: readonly Entry[]): Parts {
  const [first] = list;
  const files = list.filter(({ type }) => type === 'file' || type === 'hardlink').length;
  const bytes = list.reduce((sum, entry) => sum + (entry.type === 'file' ? entry.size : 0), 0);
  const segment: Segment = {
    packs: ['0'.repeat(32), '1'.repeat(32)],
    chunks: [
      ['a'.repeat(64), 0, 0, 90, 100, 'lz4'],
      ['b'.repeat(64), 1, 0, 50, 100, 'stored'],
    ],
    entries: list,
  };
  const root: ManifestRoot = {
    formatVersion: 1,
    tool: 'test/1',
    workspaceId: newId('workspace'),
    snapshotId: newId('snapshot'),
    writerId: 'test',
    epoch: 1,
    seq: 2,
    parent: null,
    startedAtMs: 1_700_000_000_000,
    counts: { entries: list.length, files, bytes },
    packs: ['2'.repeat(32)],
    chunks: [['c'.repeat(64), 0, 0, 500, 1_000, 'lz4']],
    segments: first === undefined ? [] : [{ first: first.path, entries: list.length, chunks: [0] }],
  };
  return { root, segment };
}

function read(root: Uint8Array, segment: Uint8Array): Manifest {
  const decoded = decodeRoot(root);
  return joinSegments(
    decoded,
    decoded.segments.map(() => decodeSegment(segment)),
  );
}

function readJson({ root, segment }: { readonly root?: unknown; readonly segment?: unknown }): Manifest {
  return read(Buffer.from(JSON.stringify(root) ?? ''), Buffer.from(JSON.stringify(segment) ?? ''));
}

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

const good = partsOf(entries);

test('any change to a manifest makes another safe one, or is refused', async () => {
  const { accepted, refused } = await fuzz({ inputs: 12_000, maxAllocatedBytes: BUDGET }, (input) => {
    const changed = mutateJson(good, seededRandom(input)) as Partial<Parts> | null;
    expectSafe(readJson(changed ?? {}));
  });
  expect(Math.min(accepted, refused)).toBeGreaterThan(200);
});

test('any change to the bytes of a manifest makes another safe one, or is refused', async () => {
  const [root, segment] = [encodeRoot(good.root), encodeSegment(good.segment)];
  const { refused } = await fuzz({ inputs: 8_000, maxAllocatedBytes: BUDGET }, (input) => {
    const random = seededRandom(input);
    expectSafe(input % 2 === 0 ? read(mutate(root, random), segment) : read(root, mutate(segment, random)));
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
    expectSafe(readJson(partsOf((trees[input] ?? []) as Entry[])));
  });
  expect(Math.min(accepted, refused)).toBeGreaterThan(200);
});
