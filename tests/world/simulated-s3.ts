import { systemClock, type Clock } from '@dumont/shared/util/clock.ts';
import type { BucketGrant } from '@dumont/shared/protocol/storage-grant.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { openStore, type OpenStore } from '@dumont/agent/storage/open-store.ts';
import { startS3Simulator, type S3Simulator, type S3SimulatorOptions } from '../simulators/s3/s3-simulator.ts';

export const S3_CREDENTIALS = { accessKeyId: 'key-id', secretAccessKey: 'a secret' };

export interface SimulatedS3 extends AsyncDisposable {
  readonly simulator: S3Simulator;
  readonly grant: BucketGrant;
  readonly store: OpenStore;
}

/** A grant for a simulator's bucket `snapshots`, with the profile of the service it plays. */
export function grantFor(simulator: S3Simulator, changes: Partial<BucketGrant> = {}): BucketGrant {
  return {
    kind: 's3',
    endpoint: simulator.endpoint,
    region: 'eu-central-003',
    bucket: 'snapshots',
    prefix: 'team-a/',
    forcePathStyle: true,
    ...S3_CREDENTIALS,
    ...changes,
  };
}

/** A simulated service and the store that its grant opens, on one clock. */
export async function openSimulatedS3(
  options: Partial<S3SimulatorOptions> = {},
  changes: Partial<BucketGrant> = {},
): Promise<SimulatedS3> {
  const clock: Clock = options.clock ?? systemClock;
  const simulator = await startS3Simulator({ ...S3_CREDENTIALS, buckets: ['snapshots'], pageSize: 3, ...options });
  const mode = options.mode ?? 'minio';
  const grant = grantFor(simulator, { profile: mode === 'ignorant' ? 'minio' : mode, ...changes });
  const store = await openStore(grant, { clock, random: seededRandom(1) });
  return {
    simulator,
    grant,
    store,
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]();
      await simulator[Symbol.asyncDispose]();
    },
  };
}
