import { DirtySet } from '@dumont/agent/workspace/dirty-set.ts';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';

test('what was taken and put back is dirty again with its age, together with what came since', () => {
  const dirty = new DirtySet();
  dirty.mark('a', 100);
  dirty.mark('b', 200);
  const mark = dirty.take();
  expect(mark).toEqual({ paths: new Set(['a', 'b']), sinceMonotonicMs: 100 });
  expect(dirty.sinceMonotonicMs).toBeNull();
  dirty.mark('c', 300);
  if (mark !== null) dirty.restore(mark);
  expect(dirty.take()).toEqual({ paths: new Set(['a', 'b', 'c']), sinceMonotonicMs: 100 });
  expect(dirty.take()).toBeNull();
});

test('above its bound the set becomes everything and keeps no paths', () => {
  const dirty = new DirtySet(3);
  for (const path of ['a', 'b', 'c', 'd', 'e']) dirty.mark(path, 1);
  expect(dirty.size).toBe('everything');
  expect(dirty.take()?.paths).toBe('everything');
  dirty.mark('f', 2);
  expect(dirty.take()?.paths).toEqual(new Set(['f']));
});

test('no sequence of marks, takes and restores loses a change or makes it younger', () => {
  const step = fc.oneof(
    fc.record({ do: fc.constant('mark' as const), path: fc.integer({ min: 0, max: 9 }).map(String) }),
    fc.record({ do: fc.constantFrom('everything' as const, 'take-and-restore' as const), path: fc.constant('') }),
  );
  fc.assert(
    fc.property(fc.array(step, { minLength: 1 }), (steps) => {
      const dirty = new DirtySet(5);
      const marked = new Set<string>();
      let firstMs: number | null = null;
      for (const [nowMs, one] of steps.entries()) {
        if (one.do === 'take-and-restore') {
          const mark = dirty.take();
          if (mark !== null) dirty.restore(mark);
          continue;
        }
        firstMs ??= nowMs;
        if (one.do === 'everything') dirty.markEverything(nowMs);
        else {
          marked.add(one.path);
          dirty.mark(one.path, nowMs);
        }
      }
      expect(dirty.sinceMonotonicMs).toBe(firstMs);
      const paths = dirty.take()?.paths ?? new Set<string>();
      if (paths !== 'everything') expect([...marked].every((path) => paths.has(path))).toBe(true);
    }),
  );
});
