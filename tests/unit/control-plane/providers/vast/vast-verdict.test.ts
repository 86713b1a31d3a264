import { judge } from '@dumont/control-plane/providers/vast/vast-verdict.ts';
import { throttledMs } from '@dumont/control-plane/providers/vast/vast-limits.ts';
import { expect, test } from 'vitest';

const judged = (status: number, body: unknown, quoted = '') => judge({ status, body, quoted });

test.each([
  [
    404,
    {
      success: false,
      error: 'invalid_args',
      msg: 'error 404/3603: no_such_ask Instance type by id 7 is not available.',
    },
  ],
  [
    410,
    {
      success: false,
      error: 'no_such_ask',
      msg: 'error 410/3907: no_such_ask Instance type 7 is no longer available.',
    },
  ],
  [400, { error: 'no_such_ask' }],
  [400, { detail: 'This offer is no longer rentable' }],
])('%i %j: the offer is gone', (status, body) => {
  expect(judged(status, body).kind).toBe('ask-gone');
});

test.each([
  [404, { success: false, error: 'no_such_instance', msg: 'Instance 7 not found.' }],
  [404, { success: false, error: 'not_found', msg: 'Instance not found' }],
  [404, { message: 'Instance with that ID does not exist.' }],
])('%i %j: there is no such instance', (status, body) => {
  expect(judged(status, body).kind).toBe('no-instance');
});

test('a refused start comes with status 200', () => {
  const body = { success: false, error: 'resources_unavailable', msg: 'state change queued.' };
  expect(judged(200, body).kind).toBe('queued');
});

test('a refusal may name the contract that it made all the same', () => {
  expect(judged(400, { success: false, error: 'invalid_price', msg: 'too low', new_contract: 31600001 })).toEqual({
    kind: 'refused',
    reason: 'invalid_price: too low',
    newContract: 31600001,
  });
});

test('a refused key is told apart, and a refusal without words is quoted', () => {
  expect(judged(401, { success: false, error: 'auth_error', msg: 'Invalid user key' }).kind).toBe('key-refused');
  expect(judged(403, undefined, 'Forbidden')).toMatchObject({ kind: 'refused', reason: '403 Forbidden' });
});

test('success needs no more than a status of success that nothing contradicts', () => {
  expect(judged(200, { success: true, new_contract: 5 })).toEqual({ kind: 'done', newContract: 5 });
  expect(judged(200, { instances: null }).kind).toBe('done');
});

test.each([
  ['API requests too frequent: endpoint threshold=3.0', 3_000],
  ['{"detail":"API requests too frequent endpoint threshold=4.5"}', 4_500],
  ['API requests too frequent', undefined],
])('"%s" asks for %s ms', (text, ms) => {
  expect(throttledMs(text)).toBe(ms);
});
