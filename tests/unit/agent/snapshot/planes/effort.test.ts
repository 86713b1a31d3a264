import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { effortFor } from '@dumont/agent/snapshot/planes/effort.ts';

test('a link that the cores outrun gets small snapshots, one that outruns them fast ones', () => {
  expect(effortFor({ linkBytesPerSecond: 125e6, cores: 2 })).toBe('small');
  expect(effortFor({ linkBytesPerSecond: 1.25e9, cores: 8 })).toBe('small');
  expect(effortFor({ linkBytesPerSecond: 1.25e9, cores: 2 })).toBe('fast');
  expect(effortFor({ linkBytesPerSecond: Infinity, cores: 64 })).toBe('fast');
});

test('a faster link never makes it smaller, more cores never make it larger', () => {
  const anyLink = fc.double({ min: 1e3, max: 1e12, noNaN: true });
  fc.assert(
    fc.property(anyLink, anyLink, fc.integer({ min: 1, max: 256 }), (one, other, cores) => {
      const [slow, fast] = [Math.min(one, other), Math.max(one, other)];
      if (effortFor({ linkBytesPerSecond: fast, cores }) === 'small') {
        expect(effortFor({ linkBytesPerSecond: slow, cores })).toBe('small');
        expect(effortFor({ linkBytesPerSecond: fast, cores: cores + 1 })).toBe('small');
      }
    }),
  );
});
