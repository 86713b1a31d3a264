import { isSecretName } from '@dumont/shared/node/censor-secrets.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';

const SECRET = 'hush-4711';

/** What one line of the log says. */
function logged(write: (log: ReturnType<typeof createLogger>) => void): {
  text: string;
  fields: Record<string, unknown>;
} {
  const lines: string[] = [];
  write(createLogger('test', 'debug', { write: (line) => void lines.push(line) }));
  const text = lines.join('');
  return { text, fields: JSON.parse(text) as Record<string, unknown> };
}

test('a field named as a secret is masked at any depth, in lists, and whatever the spelling', () => {
  const name = fc.constantFrom('token', 'enrolToken', 'credential', 'secretAccessKey', 'SNAPSHOT_PASSWORD', 'api-key');
  const path = fc.array(fc.constantFrom('a', 'machine', '0', 'list'), { maxLength: 6 });
  fc.assert(
    fc.property(name, path, fc.boolean(), (name, path, isList) => {
      const inner: unknown = { [name]: isList ? [SECRET] : SECRET };
      const fields = path.reduceRight((value, step) => (step === 'list' ? [value] : { [step]: value }), inner);
      const { text } = logged((log) => log.info({ event: 'x', fields }, 'message'));
      expect(text).not.toContain(SECRET);
      expect(text).toContain('[redacted]');
    }),
  );
});

test('what a child logger is bound to is masked as well', () => {
  const { text } = logged((log) => log.child({ token: SECRET, agent: { credential: SECRET } }).info('message'));
  expect(text).not.toContain(SECRET);
});

test('an error keeps its words and loses the secrets among its fields', () => {
  const cause = Object.assign(new Error('refused'), { request: { headers: { authorization: `Bearer ${SECRET}` } } });
  const err = Object.assign(new DumontError('IO', 'cannot write', { cause }), { grant: { sessionToken: SECRET } });
  const { text, fields } = logged((log) => log.warn({ event: 'x', err }, 'message'));
  expect(text).not.toContain(SECRET);
  expect(fields['err']).toMatchObject({ message: expect.stringContaining('cannot write'), code: 'IO' });
});

test('what is no secret stays as it is: ids, names of objects, numbers, nothing at all', () => {
  const fields = { objectKey: 'packs/1', tokenCount: 3, token: null, keyCount: 2, at: new Date(0), tokens: 7 };
  const { fields: line } = logged((log) => log.info({ event: 'x', ...fields }, 'message'));
  expect(line).toMatchObject({ ...fields, at: '1970-01-01T00:00:00.000Z' });
  expect(['instanceId', 'snapshotKey', 'monkey', 'secretsManager'].filter(isSecretName)).toEqual([]);
});

test('fields that turn in a circle end somewhere', () => {
  const circle: Record<string, unknown> = { token: SECRET };
  circle['self'] = circle;
  const { text } = logged((log) => log.info({ event: 'x', circle }, 'message'));
  expect(text).not.toContain(SECRET);
  expect(text).toContain('[too deep]');
});
