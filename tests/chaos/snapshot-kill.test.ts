import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import type { StorageGrant } from '@dumont/shared/protocol/storage-grant.ts';
import { startS3Simulator, type S3Simulator } from '../simulators/s3/s3-simulator.ts';
import { makeTempFolder } from '../world/temp-folder.ts';
import { runTrial, type TrialReport, type TrialSpec } from './snapshot-kill/trial.ts';

/** A full run; fewer for a quick look. */
const TRIALS = Number(process.env['DUMONT_KILL_TRIALS'] ?? 100);
const FIRST_SEED = Number(process.env['DUMONT_KILL_SEED'] ?? 1);
/** There are two cores. */
const LANES = 2;
const CREDENTIALS = { accessKeyId: 'key-id', secretAccessKey: 'a secret' };
const TIMEOUT_MS = 900_000;

type Kind = Pick<TrialSpec, 'isHeavy' | 'grantIn'> & { readonly share: number };

const folderGrant = (folder: string): StorageGrant => ({ kind: 'file', path: join(folder, 'store'), prefix: '' });

function s3Grant(simulator: S3Simulator): (folder: string) => StorageGrant {
  return (folder) => ({
    kind: 's3',
    endpoint: simulator.endpoint,
    region: 'eu-central-003',
    bucket: 'snapshots',
    prefix: `${folder.split('/').at(-1) ?? ''}/`,
    forcePathStyle: true,
    ...CREDENTIALS,
  });
}

/** All trials of one kind, after one life without a death that tells how many calls there are to die at. */
async function runKind(kind: Kind, count: number, ground: { firstSeed: number; compileCache: string }) {
  const spec = (seed: number, callsOfALife: number | null) => ({ ...kind, ...ground, seed, callsOfALife });
  const alive = await runTrial(spec(ground.firstSeed, null));
  expect(alive.problems).toEqual([]);
  const reports: TrialReport[] = [];
  const seeds = Array.from({ length: count }, (_, index) => ground.firstSeed + index).values();
  await Promise.all(
    Array.from({ length: LANES }, async () => {
      for (const seed of seeds) reports.push(await runTrial(spec(seed, alive.calls)));
    }),
  );
  return reports;
}

const reports: TrialReport[] = [];

beforeAll(async () => {
  await using cache = await makeTempFolder();
  await using simulator = await startS3Simulator({ ...CREDENTIALS, buckets: ['snapshots'] });
  const kinds: readonly Kind[] = [
    { isHeavy: false, grantIn: folderGrant, share: 0.8 },
    { isHeavy: false, grantIn: s3Grant(simulator), share: 0.1 },
    { isHeavy: true, grantIn: folderGrant, share: 0.1 },
  ];
  for (const [index, kind] of kinds.entries()) {
    const firstSeed = FIRST_SEED + index * 10_000;
    reports.push(...(await runKind(kind, Math.ceil(TRIALS * kind.share), { firstSeed, compileCache: cache.path })));
    simulator.objects('snapshots').clear();
  }
}, TIMEOUT_MS);

test(`after each of ${TRIALS} kills the newest snapshot restores byte for byte, and the next one succeeds`, () => {
  const failed = reports.filter(({ problems }) => problems.length > 0);
  expect(failed.map(({ seed, problems }) => ({ seed, problems }))).toEqual([]);
});

test('most children die, and some between the packs and the manifest', () => {
  const killed = reports.filter(({ wasKilled }) => wasKilled);
  expect(killed.length).toBeGreaterThan(0.8 * TRIALS);
  expect(killed.filter(({ strayPacks }) => strayPacks > 0).length).toBeGreaterThan(0.05 * TRIALS);
});
