import { openMemoryPglite } from '@dumont/control-plane/store/pglite.ts';
import { migrate } from '@dumont/control-plane/store/migrate.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { seedIds } from './seeded-ids.ts';
import { simulateBatch, type BatchReport } from './simulate-batch.ts';
import { Traffic, WatchedDatabase } from './watched-database.ts';

/** Workspaces that share a control plane: its own rounds cost the same for one as for many. */
const BATCH = 20;

export interface SchedulesReport extends BatchReport {
  readonly seed: number;
  readonly perSecond: number;
}

/**
 * Random faults on the real decisions and the real store, batch after batch. The seed of a batch is the seed given plus
 * its number, so that one can be repeated alone.
 */
export async function simulateSchedules(options: {
  readonly seed: number;
  readonly schedules: number;
  readonly onBatch?: (seed: number, report: BatchReport) => void;
}): Promise<SchedulesReport> {
  await using engine = await openMemoryPglite();
  const startMs = systemClock.monotonicMs();
  const sum = { schedules: 0, failovers: 0, takeovers: 0, averted: 0, virtualMs: 0, doubleWriterMs: 0 };
  const problems: string[] = [];
  for (let batch = 0; sum.schedules < options.schedules; batch += 1) {
    const seed = options.seed + batch;
    const schedules = Math.min(BATCH, options.schedules - sum.schedules);
    await engine.query('drop schema public cascade');
    await engine.query('create schema public');
    await migrate(engine);
    const traffic = new Traffic();
    using _ids = seedIds(seededRandom(seed));
    const report = await simulateBatch(new WatchedDatabase(engine, traffic), traffic, { seed, schedules });
    for (const key of ['schedules', 'failovers', 'takeovers', 'averted', 'virtualMs'] as const) sum[key] += report[key];
    sum.doubleWriterMs = Math.max(sum.doubleWriterMs, report.doubleWriterMs);
    problems.push(...report.problems.map((problem) => `seed ${seed}: ${problem}`));
    options.onBatch?.(seed, report);
  }
  const seconds = (systemClock.monotonicMs() - startMs) / 1_000;
  return { ...sum, problems, seed: options.seed, perSecond: sum.schedules / seconds };
}
