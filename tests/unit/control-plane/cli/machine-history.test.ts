import { findInstance } from '@dumont/control-plane/store/instances.ts';
import { noteBootFailure, openBoot } from '@dumont/control-plane/store/machine-boots.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { expect, test } from 'vitest';
import { startApiWorld } from '../http/api-world.ts';
import { fillSampleData } from '../http/sample-data.ts';
import { dumont } from './dumont-process.ts';

/** Five processes start, on a computer that may be busy. */
const BUSY_MS = 120_000;

test('the history of hosts is listed, and struck out on demand', { timeout: BUSY_MS }, async () => {
  await using world = await startApiWorld();
  const nowMs = systemClock.nowMs();
  const { primaryId } = await fillSampleData(world.db, nowMs);
  const connected = { DUMONT_URL: world.url, DUMONT_TOKEN: world.token };
  const before = await dumont(['machines', 'history'], connected);
  expect(before).toMatchObject({ exitCode: 0, stdout: '', stderr: 'No machine was ordered yet.\n' });

  const { provider, machineId } = must(await findInstance(world.db, primaryId), 'it is a sample').offer;
  await openBoot(world.db, { instanceId: primaryId, provider, machineId, atMs: nowMs - 5_000 });
  await noteBootFailure(world.db, primaryId, { reason: 'no hello', atMs: nowMs });
  const { stdout } = await dumont(['machines', 'history', '--json', '--machine', machineId], connected);
  const [view] = JSON.parse(stdout) as unknown[];
  expect(view).toMatchObject({ machineId, provider, failed: 1, successRate: 0, blacklistedUntilMs: null });
  const forgotten = await dumont(['machines', 'forget', machineId], connected);
  expect(forgotten).toMatchObject({ exitCode: 0, stdout: `The past of ${machineId} counts no more.\n` });
  const unknown = await dumont(['machines', 'forget', 'nobody'], connected);
  expect(unknown.exitCode).not.toBe(0);
  expect(unknown.stderr).toContain('no machine was ever ordered on nobody');
});
