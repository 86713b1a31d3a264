import { describeEnvironment, envFlag, envMs, envPort, readEnvironment } from '@dumont/shared/node/config.ts';
import { isDumontError } from '@dumont/shared/util/errors.ts';
import { expect, test } from 'vitest';
import { z } from 'zod';

const schema = z.object({
  PORT: envPort(8_080).describe('Where to listen.'),
  PERIOD_MS: envMs(200, 20, 1_000).describe('How often.'),
  QUIET: envFlag(false).describe('Say less.'),
  TOKEN: z.string().min(4).describe('The secret.'),
  NOTE: z.string().optional().describe('Anything.'),
});

test('defaults fill in, and an empty variable is an absent one', () => {
  const read = readEnvironment(schema, { TOKEN: 'abcd', PORT: '', QUIET: '', OTHER: 'ignored' });
  expect(read).toEqual({ PORT: 8_080, PERIOD_MS: 200, QUIET: false, TOKEN: 'abcd' });
});

test.each([
  ['true', true],
  ['yes', true],
  ['1', true],
  ['false', false],
  ['no', false],
  ['0', false],
])('the flag %s is %s', (text, value) => {
  expect(readEnvironment(schema, { TOKEN: 'abcd', QUIET: text }).QUIET).toBe(value);
});

test('every variable at fault is named at once, with what it means and never with its value', () => {
  const secret = 'abc';
  let failure: unknown;
  try {
    readEnvironment(schema, { PORT: '70000', PERIOD_MS: 'often', QUIET: 'maybe', TOKEN: secret });
  } catch (error) {
    failure = error;
  }
  if (!isDumontError(failure, 'USAGE')) throw new Error('no USAGE error');
  for (const name of ['PORT', 'PERIOD_MS', 'QUIET', 'TOKEN']) expect(failure.message).toContain(`${name}: `);
  expect(failure.message).toContain('Where to listen.');
  expect(failure.message).not.toContain(secret);
  expect(failure.field).toBe('PORT');
  expect(failure.hint).toBeDefined();
});

test('a missing variable is called missing', () => {
  expect(() => readEnvironment(schema, {})).toThrow(/TOKEN: it is not set {2}\(The secret\.\)/);
});

test('the table of variables says what holds when nothing is set', () => {
  expect(describeEnvironment(schema)).toEqual([
    { name: 'PORT', defaultText: '8080', description: 'Where to listen.' },
    { name: 'PERIOD_MS', defaultText: '200', description: 'How often.' },
    { name: 'QUIET', defaultText: 'false', description: 'Say less.' },
    { name: 'TOKEN', defaultText: '(required)', description: 'The secret.' },
    { name: 'NOTE', defaultText: '', description: 'Anything.' },
  ]);
});
