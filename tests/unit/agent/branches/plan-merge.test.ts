import fc from 'fast-check';
import { expect, test } from 'vitest';
import { planMerge, type MergeStep } from '@dumont/agent/branches/plan-merge.ts';
import { summarize } from '@dumont/agent/branches/summarize.ts';
import type { Tree, TreeNode } from '@dumont/agent/branches/tree.ts';
import { isSameNode } from '@dumont/agent/branches/tree.ts';
import { mergeStrategySchema } from '@dumont/shared/model/branch.ts';

const STRATEGIES = mergeStrategySchema.options;

function file(content: string, mtimeNs = 1n): TreeNode {
  return { type: 'file', identity: `file 420 ${content}`, sizeBytes: content.length, mtimeNs };
}
const DIR: TreeNode = { type: 'dir', identity: 'dir', sizeBytes: 0, mtimeNs: 0n };

function tree(nodes: Readonly<Record<string, TreeNode>>): Tree {
  return new Map(Object.entries(nodes));
}

test.each([
  ['added by the branch', [{}, { a: file('1') }, {}], 'take take take take'],
  ['changed by the branch alone', [{ a: file('0') }, { a: file('1') }, { a: file('0') }], 'take take take take'],
  ['changed alike', [{ a: file('0') }, { a: file('1') }, { a: file('1') }], 'same same same same'],
  ['changed by both', [{ a: file('0') }, { a: file('1', 5n) }, { a: file('2', 6n) }], 'beside keep take keep'],
  ['changed later by it', [{ a: file('0') }, { a: file('1', 6n) }, { a: file('2', 5n) }], 'beside take take keep'],
  ['changed by it, deleted here', [{ a: file('0') }, { a: file('1') }, {}], 'beside take take keep'],
  ['deleted by the branch', [{ a: file('0') }, {}, { a: file('0') }], 'keep keep delete keep'],
  ['deleted by both', [{ a: file('0') }, {}, {}], 'same same same same'],
  ['a folder here', [{}, { a: file('1') }, { a: DIR }], 'beside beside beside keep'],
  ['a folder in the branch', [{}, { a: DIR }, { a: file('1') }], 'keep keep keep keep'],
] as const)('a path that is %s is dealt with by the strategy', (_, [base, branch, workspace], actions) => {
  const sides = { base: tree(base), branch: tree(branch), workspace: tree(workspace) };
  const planned = STRATEGIES.map((strategy) => planMerge({ ...sides, strategy }));
  expect(planned).toEqual(actions.split(' ').map((action) => [{ path: 'a', action }]));
});

test('a merge is limited to the paths that are named, and what lies below them', () => {
  const branch = tree({
    data: DIR,
    'data/a': file('1'),
    'data/sub/b': file('1'),
    database: file('1'),
    other: file('1'),
  });
  const plan = (paths: readonly string[]) =>
    planMerge({ base: tree({}), branch, workspace: tree({}), strategy: 'theirs', paths }).map(({ path }) => path);
  expect(plan(['data/'])).toEqual(['data', 'data/a', 'data/sub/b']);
  expect(plan(['other', 'data/sub'])).toEqual(['data/sub/b', 'other']);
  expect(plan(['nothing'])).toEqual([]);
});

const NAMES = ['a', 'b', 'c', 'd', 'e'] as const;
const nodeArbitrary = fc.tuple(fc.constantFrom('0', '1', '2'), fc.bigInt(1n, 4n)).map(([text, ns]) => file(text, ns));
const treeArbitrary = fc
  .dictionary(fc.constantFrom(...NAMES), nodeArbitrary)
  .map((nodes) => new Map(NAMES.flatMap((name) => (nodes[name] === undefined ? [] : [[name, nodes[name]]]))));

test('whatever three sides hold: what nobody but the branch touched is taken, and ours is overwritten only when asked', () => {
  fc.assert(
    fc.property(
      treeArbitrary,
      treeArbitrary,
      treeArbitrary,
      fc.constantFrom(...STRATEGIES),
      (base, branch, workspace, strategy) => {
        const steps = planMerge({ base, branch, workspace, strategy });
        const byPath = new Map<string, MergeStep['action']>(steps.map(({ path, action }) => [path, action]));
        for (const path of NAMES) {
          const [before, theirs, ours] = [base.get(path), branch.get(path), workspace.get(path)];
          const action = byPath.get(path);
          expect(action === undefined).toBe(isSameNode(before, theirs));
          if (action === undefined) continue;
          if (isSameNode(theirs, ours)) expect(action).toBe('same');
          else if (isSameNode(before, ours) && theirs !== undefined) expect(action).toBe('take');
          const overwrites = (action === 'take' && ours !== undefined) || action === 'delete';
          const isAsked = strategy === 'theirs' || strategy === 'newest';
          if (overwrites && !isAsked) expect(isSameNode(before, ours)).toBe(true);
          if (action === 'delete') expect(strategy).toBe('theirs');
        }
      },
    ),
  );
});

test('a summary counts and lists every difference, newest first, and as much as a message holds', () => {
  const base = tree({ kept: file('0'), changed: file('0'), gone: file('0') });
  const branch = tree({ changed: file('11', 3_000_000n), fresh: file('2', 9_000_000n), kept: file('0', 99n) });
  expect(summarize(base, branch)).toEqual({
    addedCount: 1,
    changedCount: 1,
    deletedCount: 1,
    changedBytes: 3,
    changes: [
      { path: 'fresh', change: 'added', sizeBytes: 1, modifiedAtMs: 9 },
      { path: 'changed', change: 'changed', sizeBytes: 2, modifiedAtMs: 3 },
      { path: 'gone', change: 'deleted', sizeBytes: null, modifiedAtMs: null },
    ],
  });
  const many = Object.fromEntries(Array.from({ length: 3_000 }, (_, n) => [`${n}-${'x'.repeat(300)}`, file('1')]));
  const summary = summarize(tree({}), tree(many));
  expect(summary.addedCount).toBe(3_000);
  expect(JSON.stringify(summary).length).toBeLessThan(524_288);
});
