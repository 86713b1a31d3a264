import { compareVersions } from '@dumont/shared/util/compare-versions.ts';
import fc from 'fast-check';
import { expect, test } from 'vitest';

test('versions stand in the order of semver.org', () => {
  const ordered = [
    '0.9.9',
    '1.0.0-alpha',
    '1.0.0-alpha.1',
    '1.0.0-alpha.beta',
    '1.0.0-rc.2',
    '1.0.0-rc.11',
    '1.0.0',
    '1.0.1',
    '1.2.0',
    '1.10.0',
    '10.0.0',
  ];
  expect(ordered.toReversed().toSorted(compareVersions)).toEqual(ordered);
  expect(compareVersions('1.0.0+b1', '1.0.0+b2')).toBe(0);
});

test('the order is one: antisymmetric and transitive', () => {
  const part = fc.integer({ min: 0, max: 3 }).map(String);
  const suffix = fc.option(fc.constantFrom('rc.1', 'rc.10', 'a', 'a.b', '1'), { nil: null });
  const version = fc
    .tuple(part, part, part, suffix)
    .map(([a, b, c, s]) => `${a}.${b}.${c}${s === null ? '' : `-${s}`}`);
  fc.assert(
    fc.property(version, version, version, (a, b, c) => {
      expect(Math.sign(compareVersions(a, b))).toBe(0 - Math.sign(compareVersions(b, a)));
      if (compareVersions(a, b) <= 0 && compareVersions(b, c) <= 0)
        expect(compareVersions(a, c)).toBeLessThanOrEqual(0);
    }),
  );
});
