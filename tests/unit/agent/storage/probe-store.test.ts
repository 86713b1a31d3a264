import { join } from 'node:path';
import { expect, test } from 'vitest';
import { probeStore } from '@dumont/agent/storage/probe-store.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import type { SimulatorMode } from '../../../simulators/s3/quirks.ts';
import type { S3SimulatorOptions } from '../../../simulators/s3/s3-simulator.ts';
import { fastClock } from '../../../world/fast-clock.ts';
import { openSimulatedS3 } from '../../../world/simulated-s3.ts';
import { makeTempFolder } from '../../../world/temp-folder.ts';

async function probeSimulated(options: Partial<S3SimulatorOptions> = {}, changes: { secretAccessKey?: string } = {}) {
  const clock = fastClock(50);
  await using opened = await openSimulatedS3({ clock, ...options }, changes);
  const probe = await probeStore(opened.grant, { clock, random: seededRandom(1) });
  return { probe, left: [...opened.simulator.objects('snapshots').keys()] };
}

const byName = ({ checks }: { readonly checks: readonly { readonly name: string }[] }, name: string) =>
  checks.find((check) => check.name === name);

test.each([
  ['minio', 'works'],
  ['s3', 'works'],
  ['r2', 'works'],
  ['b2', 'unsupported'],
  ['wasabi', 'ignored'],
  ['ignorant', 'ignored'],
] as const)('%s is ready, its conditional puts: %s', async (mode: SimulatorMode, conditionalPut) => {
  const { probe, left } = await probeSimulated({ mode });
  expect(probe.checks.filter(({ outcome }) => outcome !== 'ok')).toEqual([]);
  expect(probe).toMatchObject({ verdict: 'ready', conditionalPut, leftBehind: [] });
  expect(probe.uploadBytesPerSecond).toBeGreaterThan(0);
  expect(left).toEqual([]);
});

test('a service that ignores conditions its profile trusts is a warning', async () => {
  const { probe } = await probeSimulated({ mode: 's3', quirks: { conditionalPut: 'ignored' } });
  expect(probe).toMatchObject({ verdict: 'limited', conditionalPut: 'ignored' });
  expect(byName(probe, 'conditional put')).toMatchObject({ outcome: 'warning' });
});

test('credentials that may not delete can still hold snapshots, and what stays is named', async () => {
  const { probe, left } = await probeSimulated({ denied: ['DELETE'] });
  expect(probe.verdict).toBe('limited');
  expect(byName(probe, 'delete')).toMatchObject({ outcome: 'failed' });
  expect(left.toSorted()).toEqual(probe.leftBehind.map((key) => `team-a/${key}`).toSorted());
  expect(left).not.toEqual([]);
});

test.each([
  ['PUT', 'put'],
  ['GET', 'get'],
  ['LIST', 'list'],
])('credentials without %s cannot, and the line says so', async (denied, name) => {
  const { probe } = await probeSimulated({ denied: [denied] });
  expect(probe.verdict).toBe('unusable');
  expect(byName(probe, name)).toMatchObject({
    outcome: 'failed',
    note: expect.stringContaining('AccessDenied') as string,
  });
});

test('a lagging listing is found out', async () => {
  const { probe } = await probeSimulated({ listingLag: 2 });
  expect(probe.verdict).toBe('unusable');
  expect(byName(probe, 'list')).toMatchObject({
    outcome: 'failed',
    hint: expect.stringContaining('consistent') as string,
  });
});

test('a clock that is off is named with its distance, to the second', async () => {
  const { probe } = await probeSimulated({ clockOffsetMs: 1_200_000 });
  expect(Math.abs((probe.clockOffsetMs ?? 0) - 1_200_000)).toBeLessThan(2_000);
  expect(probe.verdict).toBe('limited');
  expect(byName(probe, 'clock')).toMatchObject({ outcome: 'warning' });
});

test('a folder is probed the same way', async () => {
  await using folder = await makeTempFolder();
  const options = { clock: fastClock(1), random: seededRandom(1) };
  const probe = await probeStore({ kind: 'file', path: join(folder.path, 's'), prefix: '' }, options);
  expect(probe).toMatchObject({ verdict: 'ready', profile: 'file', conditionalPut: 'works', clockOffsetMs: null });
});
