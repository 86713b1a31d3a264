import fc from 'fast-check';
import { readTarget } from '@dumont/control-plane/gateway/request-target.ts';
import { expect, test } from 'vitest';

const here = { host: 'cloud.test:8766', domain: 'apps.test' };

test('a workspace is named by the path, and the rest goes on byte for byte', () => {
  expect(readTarget('/w/demo/a%20b//c?x=/../y', here)).toEqual({
    kind: 'workspace',
    name: 'demo',
    by: 'path',
    path: '/a%20b//c?x=/../y',
    prefix: '/w/demo',
  });
  expect(readTarget('/w/demo?x=1', here)).toEqual({ kind: 'slash', location: '/w/demo/?x=1' });
});

test('a workspace is named by the host, in any case, with a port or a last dot', () => {
  for (const host of ['demo.apps.test', 'DEMO.Apps.Test:80', 'demo.apps.test.']) {
    expect(readTarget('/w/other/', { ...here, host })).toMatchObject({ name: 'demo', by: 'host', path: '/w/other/' });
  }
  for (const host of ['apps.test', '.apps.test', 'evilapps.test', 'demo.apps.test.evil', '']) {
    expect(readTarget('/x', { ...here, host })).toEqual({ kind: 'elsewhere' });
  }
});

test.each([
  '/w/',
  '/w',
  '/w/../api',
  '/w/%2e%2e/api',
  '/w//x',
  '/w/a b/',
  '/w/demo/../x',
  '/w/demo/%2E%2e%5Cx',
  '/w/demo/%00',
])('%s is refused', (url) => {
  expect(readTarget(url, here).kind).toBe('bad');
});

test('whatever is asked for, it is a workspace’s only by its own prefix, and never climbs', () => {
  const part = fc.constantFrom(
    '/w',
    '/',
    'demo',
    '..',
    '%2e',
    '.',
    '%2F',
    '\\',
    '?',
    '#',
    'api',
    'v1',
    '//',
    '%00',
    'http://x',
  );
  fc.assert(
    fc.property(fc.array(part, { maxLength: 12 }), (parts) => {
      const url = parts.join('');
      const target = readTarget(url, here);
      if (target.kind !== 'workspace') return;
      expect(url).toBe(target.prefix + target.path);
      const resolved = new URL(url.replaceAll(/%2f|%5c|\\/gi, '/'), 'http://x').pathname;
      expect(`${resolved}/`.startsWith(`${target.prefix}/`)).toBe(true);
    }),
    { numRuns: 2_000 },
  );
});
