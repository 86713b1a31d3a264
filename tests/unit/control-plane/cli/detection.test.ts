import { addDetectionFigures } from '@dumont/control-plane/store/detection.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { expect, test } from 'vitest';
import { startApiWorld } from '../http/api-world.ts';
import { fillSampleData } from '../http/sample-data.ts';
import { dumont } from './dumont-process.ts';

const DAY_MS = 86_400_000;
/** Three processes start, on a computer that may be busy. */
const BUSY_MS = 120_000;

test('the figures of the detector are a table for people and numbers for programs', { timeout: BUSY_MS }, async () => {
  await using world = await startApiWorld();
  const { primaryId } = await fillSampleData(world.db, systemClock.nowMs());
  const connected = { DUMONT_URL: world.url, DUMONT_TOKEN: world.token };
  const before = await dumont(['detection'], connected);
  expect(before).toMatchObject({ exitCode: 0, stdout: '', stderr: 'No machine was watched yet.\n' });

  const counts = { suspects: 4, mistakes: 3, averted: 1, losses: 1, returned: 0 };
  const times = { watchedMs: 10 * DAY_MS, mistakeMs: 1_500, detectMs: 612, detectMaxMs: 612 };
  await addDetectionFigures(world.db, primaryId, { ...counts, ...times }, systemClock.nowMs());
  const { exitCode, stdout } = await dumont(['detection', '--by', 'instance'], connected);
  const [head, row] = stdout.trimEnd().split('\n');
  expect(exitCode).toBe(0);
  expect(head).toMatch(/^PROVIDER +MACHINE +WATCHED +LOSSES +DETECTED IN/);
  expect(row).toMatch(new RegExp(`${primaryId} +240 h 00 min +1 +612 ms +612 ms +4 +9\\.0 +500 ms +99\\.9998 %`));
  const [view] = JSON.parse((await dumont(['detection', '--json'], connected)).stdout) as unknown[];
  expect(view).toMatchObject({ instanceId: null, mistakesPerMonth: 9, mistakeMs: 500, averted: 1, detectMs: 612 });
});
