import { fail, ok, skip, warn, type Check } from '@dumont/agent/doctor/check.ts';
import { renderFixes, renderReport } from '@dumont/agent/doctor/report.ts';
import { runChecks, selectChecks } from '@dumont/agent/doctor/run-checks.ts';
import { readSituation } from '@dumont/agent/doctor/situation.ts';
import { expect, test } from 'vitest';
import { ManualClock } from '../../../world/manual-clock.ts';

const check = (id: string, run: Check['run']): Check => ({ id, title: `Title of ${id}`, run });
const CHECKS: readonly Check[] = [
  check('good', async () => ok('fine')),
  check('odd', async () => warn('strange \u001b[2J', 'do this')),
  check('none', async () => skip('not here')),
  check('bad', async () => fail('broken', 'mend it')),
  check('thrower', () => Promise.reject(new Error('no such thing'))),
];
const never = new AbortController().signal;

async function resultsOf(checks: readonly Check[], clock = new ManualClock()) {
  return runChecks(checks, await readSituation({ environment: {}, storeUrl: null, clock }), never);
}

test('checks run side by side, and one that throws is a finding like any other', async () => {
  const results = await resultsOf(CHECKS);
  expect(results.map(({ id, status }) => `${id} ${status}`)).toEqual([
    'good ok',
    'odd warn',
    'none skip',
    'bad fail',
    'thrower fail',
  ]);
});

test('a check that hangs ends with its time, and holds up no other', async () => {
  const clock = new ManualClock();
  const asked = Promise.withResolvers<AbortSignal>();
  const hanging = check('hanging', (_, signal) => {
    asked.resolve(signal);
    return new Promise(() => {});
  });
  const running = resultsOf([{ ...hanging, timeLimitMs: 3_000 }, check('good', async () => ok('fine'))], clock);
  const signal = await asked.promise;
  // Whatever needs no time is over now.
  await clock.advance(0);
  await clock.advance(3_000);
  expect(await running).toMatchObject([
    { id: 'hanging', status: 'fail', detail: 'it did not end within 3 s', ms: 3_000 },
    { id: 'good', status: 'ok', ms: 0 },
  ]);
  expect(signal.aborted).toBe(true);
});

test('an unknown check is refused with the known ones named', () => {
  expect(selectChecks(CHECKS, ['bad', 'good']).map(({ id }) => id)).toEqual(['good', 'bad']);
  expect(() => selectChecks(CHECKS, ['good', 'worse'])).toThrow(
    expect.objectContaining({ code: 'USAGE', field: 'only', hint: expect.stringContaining('thrower') }),
  );
});

test('a report puts the worst last, above the counts, and lets nothing write on the terminal', async () => {
  const results = await resultsOf(CHECKS);
  const lines = renderReport(results, false).split('\n');
  expect(lines.at(-1)).toBe('2 failed, 1 to look at, 1 skipped, 1 ok');
  expect(
    lines
      .filter((line) => /^\w/.test(line))
      .map((line) => line.split(/ +/)[0])
      .slice(0, 5),
  ).toEqual(['ok', 'skip', 'warn', 'fail', 'fail']);
  expect(lines.join('')).not.toContain('\u001b');
  expect(renderReport(results, true)).toContain('\u001b[31mfail');
  expect(renderFixes(results).split('\n')[0]).toBe('bad: mend it');
});
