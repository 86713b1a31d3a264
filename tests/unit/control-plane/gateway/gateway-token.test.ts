import {
  signToken,
  takeTokenFromPath,
  tokenInCookies,
  verifyToken,
} from '@dumont/control-plane/gateway/gateway-token.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { expect, test } from 'vitest';

const workspaceId = newId('workspace');

test('a token opens its own workspace until its end, and nothing else', () => {
  const token = signToken(workspaceId, 5_000, 'secret');
  expect(verifyToken(token, { workspaceId, secret: 'secret', nowMs: 4_999 })).toBe(5_000);
  expect(verifyToken(token, { workspaceId, secret: 'secret', nowMs: 5_000 })).toBeNull();
  expect(verifyToken(token, { workspaceId, secret: 'other', nowMs: 0 })).toBeNull();
  expect(verifyToken(token, { workspaceId: newId('workspace'), secret: 'secret', nowMs: 0 })).toBeNull();
  const later = token.replace(/^[^.]+/, (9_000).toString(36));
  for (const forged of [
    later,
    `${token}x`,
    token.slice(0, -1),
    '',
    '.',
    'a.b',
    `${'z'.repeat(12)}.${token.split('.')[1]}`,
  ]) {
    expect(verifyToken(forged, { workspaceId, secret: 'secret', nowMs: 0 }), forged).toBeNull();
  }
});

test('a token is found in a cookie and taken out of a link', () => {
  expect(tokenInCookies('a=1; dumont-gateway=t.s; b=2')).toBe('t.s');
  expect(tokenInCookies('xdumont-gateway=t')).toBeUndefined();
  expect(takeTokenFromPath('/a?x=1&dumont-token=t.s&y=2')).toEqual({ token: 't.s', rest: '/a?x=1&y=2' });
  expect(takeTokenFromPath('/a?dumont-token=t')).toEqual({ token: 't', rest: '/a' });
  expect(takeTokenFromPath('/dumont-token=t')).toBeNull();
});
