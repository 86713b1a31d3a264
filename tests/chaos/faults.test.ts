import { join } from 'node:path';
import { expect, test } from 'vitest';
import { runProgram } from '../world/run-program.ts';
import type { CaseResult } from './suite/run-case.ts';
import { whyNotSealed } from './suite/sealed.ts';

const MAIN = join(import.meta.dirname, 'suite', 'main.ts');

/** Those that no other test does; `npm run chaos` does all. */
const CASES = ['drop-in', 'half-open', 'disk-full'];
const TIMEOUT_MS = 480_000;

const reason = await whyNotSealed();

test.skipIf(reason !== null)(
  reason === null
    ? 'no promise is broken by a one-way cut, a half-open connection or a full disk'
    : `faults of networks and disks (left out: ${reason})`,
  async () => {
    const { stdout, stderr } = await runProgram(MAIN, ['--json', '--only', CASES.join(',')], {});
    const results = JSON.parse(stdout === '' ? '[]' : stdout) as readonly CaseResult[];
    expect(
      results.map(({ name, problems }) => ({ name, problems })),
      stderr,
    ).toEqual(CASES.map((name) => ({ name, problems: [] })));
    expect(results.map(({ doubleWriterMs }) => doubleWriterMs)).toEqual(CASES.map(() => 0));
  },
  TIMEOUT_MS,
);
