import { parseArgs } from 'node:util';
import { detectModeSchema } from '@dumont/shared/model/policy.ts';
import { z } from 'zod';
import { PROFILES, type ProfileName } from './host-model.ts';
import { evaluate, type Row } from './evaluate.ts';
import type { BatchReport } from './schedules/simulate-batch.ts';
import { simulateSchedules } from './schedules/simulate-schedules.ts';

const HELP = `Usage: npm run sim -- [options]

Simulates hosts under the real failure detector, on a virtual clock: the same seed gives the same table. With --schedules,
random faults on whole workspaces instead: real detector, operations and store, simulated machines and providers.

  --seed <n>          1 by default
  --schedules <n>     so many schedules of faults; exit code 1 when a promise is broken in one
  --days <n>          host-days for each row, 200 by default
  --deaths <n>        deaths of each kind for each row, 400 by default
  --profile <name>    good, noisy or all (default)
  --mode <name>       fast, balanced, cautious, adaptive or all (default)
  --json              one JSON value instead of the table
`;

const count = z.coerce.number().int().min(1).max(1_000_000);
const optionsSchema = z.object({
  seed: z.coerce.number().int().min(0).default(1),
  schedules: count.optional(),
  days: count.default(200),
  deaths: count.default(400),
  profile: z.enum(['good', 'noisy', 'all']).default('all'),
  mode: z.enum([...detectModeSchema.options, 'all']).default('all'),
});

async function main(): Promise<void> {
  const text = { type: 'string' } as const;
  const { values } = parseArgs({
    options: {
      seed: text,
      schedules: text,
      days: text,
      deaths: text,
      profile: text,
      mode: text,
      json: { type: 'boolean' },
      help: { type: 'boolean' },
    },
  });
  if (values.help === true) {
    process.stdout.write(HELP);
    return;
  }
  const { profile, mode, schedules, ...rest } = optionsSchema.parse(values);
  if (schedules !== undefined) {
    await runSchedules(rest.seed, schedules, values.json === true);
    return;
  }
  const profiles = profile === 'all' ? (Object.keys(PROFILES) as ProfileName[]) : [profile];
  const modes = mode === 'all' ? detectModeSchema.options : [mode];
  const result = await evaluate({ ...rest, profiles, modes });
  if (values.json === true) {
    process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
    return;
  }
  process.stdout.write(`${table(result.rows)}\n\n`);
  for (const { mode: name, pauses, restarts, suspects, confirms, commits } of result.controlPlane) {
    const said = `${suspects} suspects, ${confirms} confirms, ${commits} commits`;
    process.stdout.write(`control plane, ${name}: ${pauses} pauses of 2 s and ${restarts} restarts: ${said}\n`);
  }
}

async function runSchedules(seed: number, schedules: number, json: boolean): Promise<void> {
  let done = 0;
  const onBatch = (batchSeed: number, report: BatchReport) => {
    done += report.schedules;
    if (!json && process.stderr.isTTY) process.stderr.write(`\r${done} of ${schedules} `);
    for (const problem of report.problems) process.stderr.write(`seed ${batchSeed}: ${problem}\n`);
  };
  const report = await simulateSchedules({ seed, schedules, onBatch });
  const { failovers, takeovers, averted, doubleWriterMs, problems, perSecond } = report;
  const words = [
    `${report.schedules} schedules, ${perSecond.toFixed(1)} a second`,
    `${failovers} failovers, ${takeovers} of them over a standby, ${averted} averted`,
    `two writers for at most ${doubleWriterMs} ms, ${problems.length} broken promises`,
  ];
  process.stdout.write(json ? `${JSON.stringify(report, null, 2)}\n` : `${words.join('\n')}\n`);
  if (problems.length > 0) process.exitCode = 1;
}

const COLUMNS: readonly (readonly [title: string, cell: (row: Row) => string])[] = [
  ['host', (row) => row.profile],
  ['mode', (row) => row.mode],
  ['standby', (row) => (row.hasStandby ? 'yes' : 'no')],
  ['suspect p99', (row) => whole(row.suspectMs.p99)],
  ['confirm p50', (row) => whole(row.confirmMs.p50)],
  ['p99', (row) => whole(row.confirmMs.p99)],
  ['max', (row) => whole(row.confirmMs.max)],
  ['hard p99', (row) => whole(row.hardMs.p99)],
  ['commit p50', (row) => whole(row.commitMs.p50)],
  ['mistakes/month', (row) => whole(row.mistakesPerMonth)],
  ['T_M ms', (row) => whole(row.mistakeMs)],
  ['P_A', (row) => row.queryAccuracy.toFixed(6)],
  ['averted/month', (row) => whole(row.avertedPerMonth)],
  ['false commits/month', (row) => row.falseCommitsPerMonth.toFixed(2)],
];

function table(rows: readonly Row[]): string {
  const lines = [COLUMNS.map(([title]) => title), ...rows.map((row) => COLUMNS.map(([, cell]) => cell(row)))];
  const widths = COLUMNS.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  return lines.map((line) => line.map((cell, column) => cell.padStart(widths[column] ?? 0)).join('  ')).join('\n');
}

function whole(value: number): string {
  return value.toFixed(0);
}

await main();
