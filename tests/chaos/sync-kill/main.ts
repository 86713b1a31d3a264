import { parseArgs } from 'node:util';
import { formatBytes, formatDuration } from '@dumont/shared/util/units.ts';
import { killTrials, type KillOutcome } from '../../world/sync-kill.ts';

/** Kills during continuous sync, with figures: `npm run chaos:sync -- --trials 200 --seed 1`. Fails when a promise is broken. */
const { values } = parseArgs({ options: { trials: { type: 'string' }, seed: { type: 'string' } } });
const outcomes: KillOutcome[] = [];
for await (const outcome of killTrials(Number(values.trials ?? 200), Number(values.seed ?? 1))) {
  outcomes.push(outcome);
  const { trial, bothKilled, writes, lostWrites, lostMs, reportedMs, lostBytes, reportedBytes, violations } = outcome;
  const lost = `${lostWrites} lost after the watermark`;
  const age = `${formatDuration(lostMs)} of ${formatDuration(reportedMs)} reported`;
  const size = `${formatBytes(lostBytes)} of ${formatBytes(reportedBytes)} reported`;
  const who = bothKilled ? 'both' : 'primary';
  print([String(trial).padStart(4), who.padEnd(8), `${writes} writes`, lost, age, size, ...violations].join('  '));
}
const most = (of: (one: KillOutcome) => number) => Math.max(0, ...outcomes.map(of));
const broken = outcomes.filter(({ violations }) => violations.length > 0).length;
print(`${outcomes.length} kills, ${broken} with a broken promise`);
print(
  `most lost of before the last beat: ${formatDuration(most((one) => one.lostMs))}, ${formatBytes(most((one) => one.lostBytes))}`,
);
print(
  `most reported: ${formatDuration(most((one) => one.reportedMs))}, ${formatBytes(most((one) => one.reportedBytes))}`,
);
if (broken > 0) process.exitCode = 1;

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
