import { parseArgs } from 'node:util';
import { must } from '@dumont/shared/util/assert.ts';
import { CASES } from './cases.ts';
import { PacketFilter } from './packet-filter.ts';
import { runCase, type CaseResult } from './run-case.ts';
import { isSealed, runSealed, whyNotSealed } from './sealed.ts';
import { renderTable } from './table.ts';

const HELP = `Usage: npm run chaos [-- options]

Does one fault after another to a real installation, each to a fresh one, and holds what comes of it against what is promised.
Everything runs in namespaces of its own. Needs root on Linux, for lost packets and full disks.

  --only <names>   these cases, by name, separated by commas
  --rounds <n>     each case so many times, 1 by default
  --list           the names
  --json           one JSON value instead of the table

Exit code 1 when a promise is broken.
`;
const MAX_ROUNDS = 1_000;

async function main(): Promise<void> {
  const text = { type: 'string' } as const;
  const flag = { type: 'boolean' } as const;
  const { values } = parseArgs({ options: { only: text, rounds: text, list: flag, json: flag, help: flag } });
  if (values.help === true) return print(HELP);
  if (values.list === true) return print(CASES.map(({ name, fault }) => `${name.padEnd(24)}${fault}\n`).join(''));
  const names = values.only?.split(',') ?? CASES.map(({ name }) => name);
  const chosen = names.map((name) =>
    must(
      CASES.find((one) => one.name === name),
      `there is a case ${name}: --list`,
    ),
  );
  const rounds = Number(values.rounds ?? 1);
  if (!Number.isInteger(rounds) || rounds < 1 || rounds > MAX_ROUNDS) throw new RangeError('--rounds wants 1 to 1000');
  if (!isSealed()) {
    const reason = await whyNotSealed();
    if (reason !== null) throw new Error(`chaos cannot run here: ${reason}`);
    process.exitCode = await runSealed(import.meta.filename, process.argv.slice(2));
    return;
  }
  await PacketFilter.prepare();
  const results: CaseResult[] = [];
  for (let round = 0; round < rounds; round += 1) {
    for (const one of chosen) {
      const result = await runCase(one);
      results.push(result);
      const verdict = result.problems.length === 0 ? 'kept' : `BROKEN: ${result.problems.join('; ')}`;
      process.stderr.write(
        `${one.name}: ${result.outcome}, ${verdict} (${(result.durationMs / 1_000).toFixed(0)} s)\n`,
      );
    }
  }
  print(values.json === true ? `${JSON.stringify(results)}\n` : `${renderTable(results)}\n`);
  if (results.some(({ problems }) => problems.length > 0)) process.exitCode = 1;
}

function print(text: string): void {
  process.stdout.write(text);
}

await main();
